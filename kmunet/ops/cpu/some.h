// Vectors at the end of a row, and functions of a vector that several kernels share.
#pragma once
#include <algorithm>
#include "vector.h"

namespace {

// The last numbers of a row, short of LANES, go through a buffer.
inline V load_some(const float *from, int64_t count) {
  if (count >= LANES) return load_vector(from);
  float lanes[LANES] = {};
  std::copy(from, from + count, lanes);
  return load_vector(lanes);
}
inline void store_some(float *to, V v, int64_t count) {
  if (count >= LANES) return store_vector(to, v);
  float lanes[LANES];
  store_vector(lanes, v);
  std::copy(lanes, lanes + count, to);
}

inline V sigmoid(V x) {
  const V one = broadcast(1.0f), z = exp_negative(minus_magnitude(x));
  return (x < 0.0f ? z : one) / (one + z);
}

}  // namespace
