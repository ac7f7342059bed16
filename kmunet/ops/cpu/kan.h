// What a KAN layer multiplies with its weights: SiLU(x) and the cubic B-splines of x on a
// uniform grid, N(w) = (2 - w)_+^3 / 6 - 2/3 (1 - w)_+^3 with w = |(x - t_0) / h - 2 - i|.
#pragma once
#include <cstring>
#include "some.h"
#include "threads.h"

namespace {

struct Kan {  // as in kan.py; x (rows, inputs), y (rows, last - first, inputs)
  int64_t rows, inputs, threads;
  int64_t first, last;  // of SiLU, N_0, N_1, ...
  const float *x, *start, *inverse_step;  // t_0 and 1 / h of each input
  float *y;
  const float *dy;
  float *dx;
};

// (x - t_0) / h - 2 less the number of the spline that is `i` in the list.
inline V offset(const Kan &p, V x, int64_t i, int64_t j, int64_t left) {
  const V all = (x - load_some(p.start + j, left)) * load_some(p.inverse_step + j, left);
  return all - broadcast(float(i + 1));
}

inline void kan_forward(const Kan &p, int64_t row) {
  float *y = p.y + row * (p.last - p.first) * p.inputs;
  for (int64_t j = 0; j < p.inputs; j += LANES) {
    const int64_t left = p.inputs - j;
    const V x = load_some(p.x + row * p.inputs + j, left);
    if (p.first == 0) store_some(y + j, x * sigmoid(x), left);
    const int64_t start = std::max<int64_t>(p.first, 1);
    V v = offset(p, x, start, j, left);
    for (int64_t i = start; i < p.last; i++, v -= 1.0f) {
      const V w = magnitude(v), outer = positive(2.0f - w), inner = positive(1.0f - w);
      const V low = inner * inner * inner * broadcast(-2.0f / 3);
      store_some(y + (i - p.first) * p.inputs + j,
                 fma(outer * outer, outer * broadcast(1.0f / 6), low), left);
    }
  }
}

inline void kan_backward(const Kan &p, int64_t row) {
  const float *dy = p.dy + row * (p.last - p.first) * p.inputs;
  for (int64_t j = 0; j < p.inputs; j += LANES) {
    const int64_t left = p.inputs - j, start = std::max<int64_t>(p.first, 1);
    const V x = load_some(p.x + row * p.inputs + j, left);
    V v = offset(p, x, start, j, left), sum = {};
    for (int64_t i = start; i < p.last; i++, v -= 1.0f) {
      const V w = magnitude(v), outer = positive(2.0f - w), inner = positive(1.0f - w);
      const V slope = fma(outer * outer, broadcast(-0.5f), inner * inner * 2.0f);
      const V g = load_some(dy + (i - p.first) * p.inputs + j, left);
      sum = fma(v < 0.0f ? -slope : slope, g, sum);
    }
    sum = sum * load_some(p.inverse_step + j, left);
    if (p.first == 0) {
      const V s = sigmoid(x), silu = s * fma(x, 1.0f - s, broadcast(1.0f));
      sum = fma(silu, load_some(dy + j, left), sum);
    }
    float *dx = p.dx + row * p.inputs + j;
    store_some(dx, p.first ? load_some(dx, left) + sum : sum, left);
  }
}

void kan_forward(const Kan &p) {
  share_rows(p.threads, p.rows, 64, [&](int64_t first, int64_t last) {
    for (int64_t row = first; row < last; row++) kan_forward(p, row);
  });
}

void kan_backward(const Kan &p) {
  share_rows(p.threads, p.rows, 64, [&](int64_t first, int64_t last) {
    for (int64_t row = first; row < last; row++) kan_backward(p, row);
  });
}

}  // namespace

extern "C" {
KMUNET_ENTRY(kan_forward, Kan)
KMUNET_ENTRY(kan_backward, Kan)
}  // extern "C"
