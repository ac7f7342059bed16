// Efficient multi-scale attention, forward and backward, in passes over the pixels:
//   u = x gate_row gate_column, out = x sigmoid(score),
//   score = sum over a group of kernel * x + scale (u - mean) + shift.
// What lies between them is small and left to torch (attention.py). Sums run over SHORT
// pixels in float32, then in float64, in an order that does not depend on the threads.
#include "attention_backward.h"
#include "attention_forward.h"

#define PASS(name)                                                    \
  int kmunet_attention_##name(const Attention *p, int half) {          \
    return finished([&] { half ? name<Half>(*p) : name<float>(*p); }); \
  }

extern "C" {

PASS(means)
PASS(moments)
PASS(weigh)
PASS(score_gradient)
PASS(gate_gradient)
PASS(pixel_gradient)

}  // extern "C"
