// What both directions of time share: the problem, its parameters lane by lane, and one
// segment of STEPS tokens with its steps and inputs.
#pragma once
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <limits>
#include <vector>
#include "vector.h"

namespace {

#ifndef KMUNET_STEPS
#define KMUNET_STEPS 32
#endif
constexpr int STEPS = KMUNET_STEPS;
constexpr int64_t WIDTH = int64_t(LANES) * BLOCKS;  // channels that step together

struct Problem {  // as in native.py; row-major arrays, a null pointer where not used
  int64_t batch, directions, channels, height, width, states, rank;
  int64_t shared;    // 1: x, y serve all directions, each in its own order (2-D)
  int64_t softplus, threads;
  const float *x;      // (batch, L, columns), columns = channels * (shared ? 1 : K)
  const float *proj;   // (batch, L, K, rank + 2 states): dt, B, C
  const float *delta;  // (batch, L, K * channels), where rank is 0
  const float *A, *weight, *bias, *skip;  // (K channels, states), (.., rank), (..), (..)
  float *y, *kept;
  const float *dy;
  float *dx, *dproj, *ddelta, *dA, *dweight, *dbias, *dskip;

  int64_t length() const { return height * width; }
  int64_t columns() const { return shared ? channels : channels * directions; }
  int64_t column(int64_t k) const { return shared ? 0 : k * channels; }
  int64_t row() const { return rank + 2 * states; }
  int64_t wide() const { return (channels + WIDTH - 1) / WIDTH; }
  int64_t padded() const { return (states + GROUP - 1) / GROUP * GROUP; }
  int64_t segments() const { return (length() + STEPS - 1) / STEPS; }
  int64_t state_size() const { return wide() * padded() * BLOCKS; }  // vectors
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

// The parameters of all directions, lane by lane, padded with zeros.
struct Parameters {
  const Problem &p;
  Aligned A, weight, bias, skip;

  explicit Parameters(const Problem &q) : p(q) {
    const int64_t all = p.directions * p.wide() * BLOCKS;
    A.reset(all * p.padded());
    weight.reset(all * std::max<int64_t>(p.rank, 1));
    bias.reset(all);
    skip.reset(all);
    for (int64_t c = 0; c < p.directions * p.channels; c++) pack(c);
  }
  // Vectors before direction k, block pair w, for arrays of `n` values a channel.
  int64_t at(int64_t k, int64_t w, int64_t n) const {
    return (k * p.wide() + w) * n * BLOCKS;
  }
  void pack(int64_t c) {
    const int64_t k = c / p.channels, d = c % p.channels, lane = d % WIDTH;
    const int64_t w = d / WIDTH;
    for (int64_t n = 0; n < p.states; n++) {
      const float a = float(double(p.A[c * p.states + n]) * 1.4426950408889634);
      // Finite, so that a step of 0 never meets an infinite A, and no step below 300
      // goes beyond what power2_of takes. One kind of not a number: bits are added.
      scalar(A, at(k, w, p.padded()), n, lane) =
          a == a ? std::min(std::max(a, -1e18f), 1e18f)
                 : std::numeric_limits<float>::quiet_NaN();
    }
    for (int64_t r = 0; r < p.rank; r++)
      scalar(weight, at(k, w, p.rank), r, lane) = p.weight[c * p.rank + r];
    if (p.bias) scalar(bias, at(k, w, 1), 0, lane) = p.bias[c];
    if (p.skip) scalar(skip, at(k, w, 1), 0, lane) = p.skip[c];
  }
  static float &scalar(Aligned &to, int64_t base, int64_t n, int64_t lane) {
    return reinterpret_cast<float *>(to.data + base + n * BLOCKS)[lane];
  }
};

// What a thread needs for one segment of one direction of one image.
struct Segment {
  const Problem &p;
  const Parameters &weights;
  int64_t image = 0, direction = 0, from = 0;
  int steps = 0;
  int64_t token[STEPS], ahead[STEPS];  // of this segment, of the next one to be opened
  int steps_ahead = 0;
  const float *rows[STEPS];  // dt, B, C of each step; the last one's after `steps`
  std::vector<float> padding;  // where B and C need zeros behind them
  std::vector<int> parts;      // of the steps, one for each group of states
  V x[STEPS][BLOCKS], slope[STEPS][BLOCKS], dt[STEPS][BLOCKS], input[STEPS][BLOCKS];

  const int64_t rank, padded, stride, row_size, columns;

  Segment(const Problem &q, const Parameters &w)
      : p(q), weights(w), rank(p.rank), padded(p.padded()), stride(rank + 2 * padded),
        row_size(p.row()), columns(p.columns()) {
    if (padded != p.states) padding.resize(STEPS * stride);
    for (int64_t n = 0; n <= padded; n += GROUP) parts.push_back(n * STEPS / padded);
  }
  int64_t channels(int64_t w) const { return p.channels - w * WIDTH; }
  int64_t offset(int t) const { return of_token(token[t]); }
  int64_t of_token(int64_t i) const {  // a token's row of x or y
    return (image * p.length() + i) * columns + p.column(direction);
  }

  int visit(int64_t s, int64_t *tokens) const {
    if (s < 0 || s >= p.segments()) return 0;
    const int64_t first = s * STEPS;
    const int count = int(std::min<int64_t>(STEPS, p.length() - first));
    p.visit(direction, first, count, tokens);
    return count;
  }
  // Segment s, after which `next` is to come.
  void open(int64_t b, int64_t k, int64_t s, int64_t next) {
    image = b, direction = k, from = s * STEPS;
    steps = visit(s, token);
    steps_ahead = visit(next, ahead);
    for (int t = 0; t < steps; t++) {
      rows[t] = p.proj + at(t);
      if (padded != p.states) pad(t);
    }
    for (int t = steps; t < STEPS; t++) rows[t] = rows[steps - 1];
  }
  void pad(int t) {
    float *to = padding.data() + t * stride;
    copy(rows[t], to, rank + p.states);
    copy(rows[t] + rank + p.states, to + rank + padded, p.states);
    rows[t] = to;
  }
  int64_t at(int t) const { return row_of(token[t]); }
  int64_t row_of(int64_t i) const {  // a token's row of proj
    return ((image * p.length() + i) * p.directions + direction) * row_size;
  }
  // Ask for the memory of a share of the steps: columns are far apart in it.
  void prefetch(int64_t n, int64_t w, const int64_t *tokens, int count,
                std::initializer_list<const float *> arrays) const {
    const int end = std::min(parts[n / GROUP + 1], count);
    for (int t = parts[n / GROUP]; t < end; t++)
      for (const float *array : arrays) touch(array + of_token(tokens[t]) + w * WIDTH);
  }
  static void touch(const float *from) {
    for (int i = 0; i < WIDTH; i += 16) __builtin_prefetch(from + i, 0, 2);
  }
  int64_t delta(int t, int64_t w) const {
    return (image * p.length() + token[t]) * p.directions * p.channels +
           direction * p.channels + w * WIDTH;
  }

  // x, the steps and their inputs for a block of channels; the steps' slopes for backward.
  template <bool with_slopes>
  void prepare(int64_t w) {
    const int64_t count = channels(w);
    for (int t = 0; t < steps; t++) load(x[t], p.x + offset(t) + w * WIDTH, count);
    for (int t = 0; rank == 0 && t < steps; t++)
      load(dt[t], p.delta + delta(t, w), count);
    project(w);
    if (p.softplus) step_sizes<with_slopes>();
    for (int t = 0; t < steps; t++)
      for (int b = 0; b < BLOCKS; b++) input[t][b] = dt[t][b] * x[t][b];
  }
  // The steps before softplus, delta + bias or weight r + bias; four at a time for one
  // load of the weights.
  __attribute__((noinline)) void project(int64_t w) {
    const V *bias = weights.bias.data + weights.at(direction, w, 1);
    const V *weight = weights.weight.data + weights.at(direction, w, rank);
    for (int t = 0; t < steps; t += 4) {
      V sum[4][BLOCKS];
      UNROLL for (int i = 0; i < 4; i++)
        for (int b = 0; b < BLOCKS; b++)
          sum[i][b] = rank == 0 ? dt[t + i][b] + bias[b] : bias[b];
      for (int64_t r = 0; r < rank; r++)
        UNROLL for (int b = 0; b < BLOCKS; b++) {
          const V factor = weight[r * BLOCKS + b];
          UNROLL for (int i = 0; i < 4; i++)
            sum[i][b] = fma(factor, broadcast(rows[t + i][r]), sum[i][b]);
        }
      UNROLL for (int i = 0; i < 4; i++)
        for (int b = 0; b < BLOCKS; b++) dt[t + i][b] = sum[i][b];
    }
  }
  template <bool with_slopes>
  __attribute__((noinline)) void step_sizes() {
    for (int t = 0; t < steps; t++)
      for (int b = 0; b < BLOCKS; b++)
        dt[t][b] = with_slopes ? softplus(dt[t][b], slope[t][b]) : softplus(dt[t][b]);
  }
};

}  // namespace
