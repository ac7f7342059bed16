// What the passes of attention.cpp share: the problem, rows of pixels, sums over groups.
// Pixels are channels last, in float32 or bfloat16; all else is float32.
#pragma once
#include <cstring>
#include "some.h"
#include "threads.h"

namespace {

struct Attention {  // as in attention.py
  int64_t batch, height, width, channels, groups, threads;
  const void *x;           // (B, H, W, C)
  float *means;            // (B, H + W, C): of rows, then of columns
  const float *gates;      // likewise
  float *mean, *variance;  // (B, C) of u = x times both gates
  const float *kernel;     // (9, C)
  const float *scale, *shift;  // (B, C): score: see attention.cpp
  void *out;
  float *weights;  // (B, H, W, G): sigmoid(score)
  const void *dout;
  float *dscore;                     // (B, H, W, G)
  float *dkernel, *dscale, *dshift;  // as above
  const float *slope, *constant;     // (B, C): du = scale dscore + slope (u - mean) + constant
  float *dgates;                     // (B, H + W, C)
  const float *dmeans;               // likewise
  void *dx;

  int64_t row() const { return width * channels; }
  int64_t rows() const { return std::clamp<int64_t>(ROOM / row(), 1, 32); }  // a task
  int64_t parts() const { return (height + rows() - 1) / rows(); }  // of an image
  const float *row_gate(int64_t b, int64_t i) const {
    return gates + (b * (height + width) + i) * channels;
  }
  static constexpr int64_t ROOM = 1 << 16;
};

constexpr int64_t SHORT = 32;  // pixels whose numbers are added in float32

struct Half { uint16_t bits; };  // bfloat16
typedef uint16_t Bits __attribute__((vector_size(2 * LANES)));

inline V load(const float *from, int64_t count) { return load_some(from, count); }
inline V load(const Half *from, int64_t count) {
  Bits bits = {};
  std::memcpy(&bits, from, 2 * std::min<int64_t>(count, LANES));
  return (V)(__builtin_convertvector(bits, I) << 16);
}
inline void store(float *to, V v, int64_t count) { store_some(to, v, count); }
inline void store(Half *to, V v, int64_t count) {  // to the nearest, ties to even
  const I all = (I)v, up = all + 0x7fff + ((all >> 16) & 1);
  const I rounded = v == v ? up : I{} + (0x7fc0 << 16);
  const Bits bits = __builtin_convertvector((rounded >> 16) & 0xffff, Bits);
  std::memcpy(to, &bits, 2 * std::min<int64_t>(count, LANES));
}

// run(j, left) for each vector of `count` numbers; `left` is constant if it can be.
template <class Run>
void each_vector(int64_t count, Run run) {
  const std::integral_constant<int64_t, LANES> all;
  int64_t j = 0;
  for (; j + LANES <= count; j += LANES) run(j, all);
  if (j < count) run(j, count - j);
}

// run(b, first, last, part) for parts of the rows of each image.
template <class Run>
void each_part(const Attention &p, Run run) {
  share_rows(p.threads, p.batch * p.parts(), 1, [&](int64_t part, int64_t) {
    const int64_t b = part / p.parts(), first = part % p.parts() * p.rows();
    run(b, first, std::min(p.height, first + p.rows()), part);
  });
}

inline void add_to(double *to, V v, int64_t count) {
  float lanes[LANES];
  store_vector(lanes, v);
  for (int64_t l = 0; l < std::min<int64_t>(count, LANES); l++) to[l] += double(lanes[l]);
}

// Sums (B, width) of partial (B, parts, width), in their order.
inline std::vector<double> add_parts(const Attention &p, const std::vector<double> &partial) {
  const int64_t width = partial.size() / (p.batch * p.parts());
  std::vector<double> sums(p.batch * width);
  for (int64_t part = 0; part < p.batch * p.parts(); part++)
    for (int64_t j = 0; j < width; j++)
      sums[part / p.parts() * width + j] += partial[part * width + j];
  return sums;
}

template <int W>  // channels of a group; 0: only known now
void add_groups_of(const float *from, float *to, int64_t groups, int64_t width) {
  const int64_t w = W ? W : width;
  for (int64_t g = 0; g < groups; g++) {
    float sum = from[g * w];
    for (int64_t k = 1; k < w; k++) sum += from[g * w + k];
    to[g] = sum;
  }
}
template <int W>
void spread_groups_of(const float *from, float *to, int64_t groups, int64_t width) {
  const int64_t w = W ? W : width;
  for (int64_t g = 0; g < groups; g++)
    for (int64_t k = 0; k < w; k++) to[g * w + k] = from[g];
}

// A row of pixels: (W, C) -> (W, G), and back.
inline void add_groups(const Attention &p, const float *from, float *to) {
  const int64_t width = p.channels / p.groups, groups = p.width * p.groups;
  auto *add = width == 2 ? add_groups_of<2> : width == 4 ? add_groups_of<4> : add_groups_of<0>;
  add(from, to, groups, width);
}
inline void spread_groups(const Attention &p, const float *from, float *to) {
  const int64_t width = p.channels / p.groups, groups = p.width * p.groups;
  auto *spread =
      width == 2 ? spread_groups_of<2> : width == 4 ? spread_groups_of<4> : spread_groups_of<0>;
  spread(from, to, groups, width);
}

// Buffers for rows of pixels.
template <class T>
struct Rows {
  const Attention &p;
  std::vector<float> wide, narrow;
  std::vector<T> none;
  explicit Rows(const Attention &p)
      : p(p), wide(p.row()), narrow(p.width * p.groups), none(p.row()) {}
  // Row i of an image of T, zeros beyond it.
  const T *at(const void *image, int64_t b, int64_t i) const {
    if (i < 0 || i >= p.height) return none.data();
    return static_cast<const T *>(image) + (b * p.height + i) * p.row();
  }
  int64_t groups_at(int64_t b, int64_t i) const {
    return (b * p.height + i) * p.width * p.groups;
  }
};

// step(offset, k) for the pixels of a 3x3 window in three rows, k = 0..8.
template <class Step>
inline void each_in_window(const Attention &p, int64_t pixel, int64_t j, Step step) {
  const int64_t at = pixel * p.channels + j;
  UNROLL for (int k = 0; k < 9; k++) {
    if (k % 3 == 0 && pixel == 0) continue;
    if (k % 3 == 2 && pixel + 1 == p.width) continue;
    step(k / 3, at + (k % 3 - 1) * p.channels, k);
  }
}

// Sums of rows and of columns (B, H + W, C), times a factor. For each row open(rows, b, i),
// for each vector of its channels make(rows, b, i, j, left), and for the pixels of that
// step(made, x, pixel, left, to row, to column).
template <class T, class Open, class Make, class Step>
void add_lines(const Attention &p, float *to, float by_row, float by_column, Open open,
               Make make, Step step) {
  std::vector<double> partial(p.batch * p.parts() * p.row());
  each_part(p, [&](int64_t b, int64_t first, int64_t last, int64_t part) {
    Rows<T> rows(p);
    std::vector<float> columns(p.row());
    for (int64_t i = first; i < last; i++) {
      const T *x = rows.at(p.x, b, i);
      open(rows, b, i);
      float *row = to + (b * (p.height + p.width) + i) * p.channels;
      each_vector(p.channels, [&](int64_t j, auto left) {
        const auto own = make(rows, b, i, j, left);
        V total = {};
        for (int64_t start = 0; start < p.width; start += SHORT) {
          V sum = {};
          for (int64_t w = start; w < std::min(p.width, start + SHORT); w++) {
            const int64_t at = w * p.channels + j;
            V column = load(&columns[at], left);
            step(own, load(x + at, left), w, left, sum, column);
            store(&columns[at], column, left);
          }
          total += sum;
        }
        store(row + j, total * by_row, left);
      });
    }
    std::copy(columns.begin(), columns.end(), &partial[part * p.row()]);
  });
  const auto sums = add_parts(p, partial);
  for (int64_t b = 0; b < p.batch; b++) {
    float *columns = to + (b * (p.height + p.width) + p.height) * p.channels;
    for (int64_t j = 0; j < p.row(); j++) columns[j] = float(sums[b * p.row() + j] * by_column);
  }
}

}  // namespace
