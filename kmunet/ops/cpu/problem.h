// The problem as native.py gives it, and vectors at the ends of its rows.
#pragma once
#include <algorithm>
#include <cstdint>
#include <cstring>
#include "vector.h"

namespace {

#ifndef KMUNET_STEPS
#define KMUNET_STEPS 32
#endif
constexpr int STEPS = KMUNET_STEPS;  // tokens that are worked on together
constexpr int64_t WIDTH = int64_t(LANES) * BLOCKS;  // channels that step together

struct Problem {  // as in native.py; row-major arrays, a null pointer where not used
  int64_t batch, directions, channels, height, width, states, rank;
  int64_t shared;    // 1: x, y serve all directions, each in its own order (2-D)
  int64_t softplus, threads;
  const float *x;  // (batch, L, columns), columns = channels * (shared ? 1 : K)
  // From each x its dt before weight (rank), B and C: (K, rank + 2 states, channels).
  const float *projection;
  // Or given: delta (batch, L, K * channels), B and C (batch, L, K, 2 states); rank 0.
  const float *proj, *delta;
  const float *A, *weight, *bias, *skip;  // (K channels, states), (.., rank), (..), (..)
  float *y, *kept;
  const float *dy;
  float *dx, *dprojection, *dproj, *ddelta, *dA, *dweight, *dbias, *dskip;

  int64_t length() const { return height * width; }
  int64_t columns() const { return shared ? channels : channels * directions; }
  int64_t column(int64_t k) const { return shared ? 0 : k * channels; }
  bool projects() const { return rank > 0; }
  int64_t rows() const { return rank + 2 * states; }  // of the projection
  int64_t wide() const { return (channels + WIDTH - 1) / WIDTH; }
  int64_t padded() const { return (states + GROUP - 1) / GROUP * GROUP; }
  int64_t padded_rows() const { return rank + 2 * padded(); }
  int64_t segments() const { return (length() + STEPS - 1) / STEPS; }
  int64_t state_size() const { return wide() * padded() * BLOCKS; }  // vectors
  int64_t full() const { return (states + LANES - 1) / LANES * LANES; }
  // Numbers of a segment's projections, and what of them is kept for the backward pass:
  // those of many channels, which cost more to compute again than to read.
  int64_t projected() const { return projects() ? STEPS * (2 * full() + rank) : 0; }
  int64_t kept_projected() const { return channels < 128 ? 0 : projected(); }
  // Numbers kept of the states before every segment.
  int64_t kept_states() const {
    return batch * directions * segments() * state_size() * LANES;
  }
  // The tokens that direction k visits from time `first` on.
  void visit(int64_t k, int64_t first, int count, int64_t *tokens) const {
    const bool columns = shared && k & 1;
    const int64_t step = shared && k & 2 ? -1 : 1;
    int64_t i = step < 0 ? length() - 1 - first : first;
    int64_t row = i % height, column = i / height;  // of an image read column by column
    for (int t = 0; t < count; t++, i += step, row += step) {
      if (row == height) row = 0, column++;
      if (row < 0) row = height - 1, column--;
      tokens[t] = columns ? row * width + column : i;
    }
  }
};

// Load or store up to BLOCKS vectors of `count` channels; lanes beyond are zero.
inline void load(V *to, const float *from, int64_t count) {
  if (count >= WIDTH) {
    for (int b = 0; b < BLOCKS; b++) to[b] = load_vector(from + b * LANES);
    return;
  }
  alignas(64) float row[WIDTH] = {};
  std::copy(from, from + count, row);
  std::memcpy(to, row, sizeof row);
}

inline void store(float *to, const V *from, int64_t count, bool add) {
  if (count >= WIDTH) {
    for (int b = 0; b < BLOCKS; b++) {
      float *at = to + b * LANES;
      store_vector(at, add ? load_vector(at) + from[b] : from[b]);
    }
    return;
  }
  alignas(64) float row[WIDTH];
  std::memcpy(row, from, sizeof row);
  for (int64_t i = 0; i < count; i++) to[i] = add ? to[i] + row[i] : row[i];
}

inline void copy(const float *from, float *to, int64_t count) {
  int64_t i = 0;
  for (; i + LANES <= count; i += LANES) store_vector(to + i, load_vector(from + i));
  for (; i < count; i++) to[i] = from[i];
}

}  // namespace
