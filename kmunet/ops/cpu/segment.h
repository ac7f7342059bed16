// What both directions of time share: one segment of STEPS tokens with its steps, inputs
// and projections.
#pragma once
#include <algorithm>
#include <cstring>
#include <initializer_list>
#include <vector>
#include "parameters.h"

namespace {

// What a thread needs for one segment of one direction of one image.
struct Segment {
  const Problem &p;
  const Parameters &weights;
  Projected projected;
  int64_t image = 0, direction = 0, from = 0;
  int steps = 0;
  int64_t token[STEPS], ahead[STEPS];  // of this segment, of the next one to be opened
  int steps_ahead = 0;
  const float *rows[STEPS];    // B of each step, and C `to_C` numbers after it
  std::vector<float> padding;  // where given B and C need zeros behind them
  std::vector<int> parts;      // of the steps, one for each group of states
  V x[STEPS][BLOCKS], slope[STEPS][BLOCKS], dt[STEPS][BLOCKS], input[STEPS][BLOCKS];

  const int64_t rank, padded, columns, to_C;

  Segment(const Problem &q, const Parameters &w)
      : p(q), weights(w), projected(w.projection), rank(p.rank), padded(p.padded()),
        columns(p.columns()), to_C(p.projects() ? p.full() : padded) {
    if (!p.projects() && padded != p.states) padding.resize(STEPS * 2 * padded);
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
    if (p.projects()) return;
    for (int t = 0; t < steps; t++) {
      rows[t] = p.proj + at(t);
      if (padded != p.states) pad(t);
    }
  }
  // x and its projections, which the backward pass finds where they were kept.
  void project_x(bool again) {
    const int64_t size = p.kept_projected(), line = image * p.directions + direction;
    float *kept = nullptr;
    if (p.kept && size > 0)
      kept = p.kept + p.kept_states() + (line * p.segments() + from / STEPS) * size;
    projected.place(kept);
    for (int t = 0; t < steps; t++) {
      copy(p.x + offset(t), projected.x_of(t), p.channels);
      rows[t] = projected.B_of(t);
    }
    if (!again || !kept) projected.compute(direction, steps);
  }
  void pad(int t) {
    float *to = padding.data() + t * 2 * padded;
    copy(rows[t], to, p.states);
    copy(rows[t] + p.states, to + padded, p.states);
    rows[t] = to;
  }
  int64_t at(int t) const {  // a step's row of proj
    const int64_t i = image * p.length() + token[t];
    return (i * p.directions + direction) * 2 * p.states;
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
    for (int t = 0; t < steps; t++)
      load(x[t], (p.projects() ? projected.x_of(t) : p.x + offset(t)) + w * WIDTH,
           p.projects() ? WIDTH : count);
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
      const float *low = projected.factors_of(t);
      for (int64_t r = 0; r < rank; r++)
        UNROLL for (int b = 0; b < BLOCKS; b++) {
          const V factor = weight[r * BLOCKS + b];
          UNROLL for (int i = 0; i < 4; i++)
            sum[i][b] = fma(factor, broadcast(low[i * rank + r]), sum[i][b]);
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
