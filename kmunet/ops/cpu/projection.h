// The projection of a token's x to (dt, B, C), computed where it is used and never stored,
// and the way back: products of small matrices over one segment.
#pragma once
#include "problem.h"

namespace {

constexpr int TILE = 4;  // tokens for one load of weights
constexpr int ROWS = 6;  // rows of a gradient for one load of x
static_assert(STEPS % TILE == 0, "tokens beyond the last are computed, not read");

// sum[i] += a[i, c] b[c] for c < count: in a, i moves by `row` and c by `step` numbers, in
// b, c by `next` vectors.
template <int T>
inline void multiply(const float *a, int64_t row, int64_t step, int64_t count, const V *b,
                     int64_t next, V *sum) {
  V own[T][BLOCKS];
  std::memcpy(own, sum, sizeof own);
  for (int64_t c = 0; c < count; c++, a += step, b += next) {
    V right[BLOCKS];
    UNROLL for (int j = 0; j < BLOCKS; j++) right[j] = b[j];
    UNROLL for (int i = 0; i < T; i++) {
      const V left = broadcast(a[i * row]);
      UNROLL for (int j = 0; j < BLOCKS; j++) own[i][j] = fma(left, right[j], own[i][j]);
    }
  }
  std::memcpy(static_cast<void *>(sum), own, sizeof own);
}

// The weights of all directions, padded with zeros, in both orders.
struct Projection {
  const Problem &p;
  const int64_t used;  // rows: dt, B, C, with padded states
  const int64_t rows;  // the same in whole ROWS
  Aligned by_row, by_channel;

  explicit Projection(const Problem &q)
      : p(q), used(p.padded_rows()), rows((used + ROWS - 1) / ROWS * ROWS) {
    if (!p.projects()) return;
    by_row.reset(p.directions * p.wide() * rows * BLOCKS);
    by_channel.reset(p.directions * pairs() * p.channels * BLOCKS);
    for (int64_t k = 0; k < p.directions; k++)
      for (int64_t r = 0; r < p.rows(); r++) pack(k, r);
  }
  // Pairs of vectors with a token's B and C.
  int64_t pairs() const { return 2 * p.full() / WIDTH; }
  // Vectors [row][BLOCKS] of a block of channels, [channel][BLOCKS] of a pair of vectors.
  const V *of_block(int64_t k, int64_t w) const {
    return by_row.data + (k * p.wide() + w) * rows * BLOCKS;
  }
  const V *of_pair(int64_t k, int64_t q) const {
    return by_channel.data + (k * pairs() + q) * p.channels * BLOCKS;
  }
  void pack(int64_t k, int64_t r) {
    const float *from = p.projection + (k * p.rows() + r) * p.channels;
    const bool is_C = r >= p.rank + p.states;
    const int64_t row = is_C ? r + p.padded() - p.states : r;
    const int64_t state = is_C ? r - p.rank - p.states + p.full() : r - p.rank;
    for (int64_t w = 0; w < p.wide(); w++) {
      const int64_t left = std::min(WIDTH, p.channels - w * WIDTH);
      copy(from + w * WIDTH, lanes(of_block(k, w) + row * BLOCKS), left);
    }
    if (state < 0) return;
    float *to = lanes(of_pair(k, state / WIDTH)) + state % WIDTH;
    for (int64_t d = 0; d < p.channels; d++) to[d * WIDTH] = from[d];
  }
  static float *lanes(const V *of) {
    return reinterpret_cast<float *>(const_cast<V *>(of));
  }
};

// One segment's x, and from it dt before its weights, B and C.
struct Projected {
  const Problem &p;
  const Projection &weights;
  const int64_t line, width;  // vectors of a token's x, numbers of its B and C
  Aligned x, partial;         // (STEPS, line); of dt, (STEPS, rank) vectors to be added
  Aligned own;                // for `to`, where the projections are not kept
  float *to = nullptr;        // B and C (STEPS, width), then dt (STEPS, rank)

  explicit Projected(const Projection &of)
      : p(of.p), weights(of), line(p.wide() * BLOCKS), width(2 * p.full()) {
    if (!p.projects()) return;
    x.reset(STEPS * line);
    partial.reset(STEPS * p.rank);
    own.reset((p.projected() + LANES - 1) / LANES);
  }
  float *x_of(int t) { return reinterpret_cast<float *>(x.data + t * line); }
  const float *B_of(int t) const { return to + t * width; }
  const float *factors_of(int t) const { return to + STEPS * width + t * p.rank; }

  // The projections are in `kept`, or will be; without it in a place of their own.
  void place(float *kept) { to = kept ? kept : reinterpret_cast<float *>(own.data); }
  void compute(int64_t k, int steps) {
    for (int t = 0; t < steps; t += TILE) {
      for (int64_t q = 0; q < weights.pairs(); q++) states(k, q, t);
      for (int64_t r = 0; r < p.rank; r++) factor(k, r, t);
    }
    const int whole = (steps + TILE - 1) / TILE * TILE;
    add_lanes(partial.data, to + STEPS * width, whole * p.rank);
  }
  __attribute__((noinline)) void states(int64_t k, int64_t q, int t) {
    V sum[TILE][BLOCKS] = {};
    multiply<TILE>(x_of(t), line * LANES, 1, p.channels, weights.of_pair(k, q), BLOCKS,
                   sum[0]);
    for (int i = 0; i < TILE; i++)
      for (int b = 0; b < BLOCKS; b++)
        store_vector(to + (t + i) * width + q * WIDTH + b * LANES, sum[i][b]);
  }
  __attribute__((noinline)) void factor(int64_t k, int64_t r, int t) {
    V sum[TILE] = {};
    for (int64_t w = 0; w < p.wide(); w++) {
      const V *row = weights.of_block(k, w) + r * BLOCKS;
      const V *from = x.data + t * line + w * BLOCKS;
      for (int b = 0; b < BLOCKS; b++)
        UNROLL for (int i = 0; i < TILE; i++)
          sum[i] = fma(from[i * line + b], row[b], sum[i]);
    }
    for (int i = 0; i < TILE; i++) partial.data[(t + i) * p.rank + r] = sum[i];
  }
};

// From the gradients of one segment's dt, B and C on to x and to the weights.
struct ProjectionGradients {
  const Problem &p;
  const Projection &weights;
  Aligned rows;  // (STEPS, rows) numbers
  Aligned dx;    // (wide, STEPS, BLOCKS): what came to x otherwise

  explicit ProjectionGradients(const Projection &of) : p(of.p), weights(of) {
    if (!p.projects()) return;
    rows.reset((STEPS * of.rows + LANES - 1) / LANES);
    dx.reset(p.wide() * STEPS * BLOCKS);
  }
  float *of(int t) { return reinterpret_cast<float *>(rows.data) + t * weights.rows; }
  V *dx_of(int64_t w, int t) { return dx.data + (w * STEPS + t) * BLOCKS; }

  __attribute__((noinline)) void to_x(int64_t k, int64_t w, int steps) {
    for (int t = 0; t < steps; t += TILE)
      multiply<TILE>(of(t), weights.rows, 1, weights.used, weights.of_block(k, w), BLOCKS,
                     dx_of(w, t));
  }
  // Added to sum, [row][BLOCKS] of a block of channels; x lies `line` vectors apart.
  __attribute__((noinline)) void to_weights(const V *x, int64_t line, int steps, V *sum) {
    for (int64_t r = 0; r < weights.rows; r += ROWS)
      multiply<ROWS>(of(0) + r, 1, weights.rows, steps, x, line, sum + r * BLOCKS);
  }
};

}  // namespace
