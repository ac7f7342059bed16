// The forward passes of attention.cpp.
#pragma once
#include <cmath>
#include "attention.h"

namespace {

template <class T>
void means(const Attention &p) {
  auto open = [](Rows<T> &, int64_t, int64_t) {};
  auto make = [](Rows<T> &, int64_t, int64_t, int64_t, auto) { return 0; };
  auto step = [](int, V x, int64_t, auto, V &row, V &column) { row += x, column += x; };
  add_lines<T>(p, p.means, 1.0f / p.width, 1.0f / p.height, open, make, step);
}

// Mean and variance of u, about the first pixel: a mean far from 0 costs no digits.
template <class T>
void moments(const Attention &p) {
  const int64_t c = p.channels;
  const T *first = static_cast<const T *>(p.x);
  std::vector<float> origin(p.batch * c);
  for (int64_t b = 0; b < p.batch; b++)
    each_vector(c, [&](int64_t j, auto left) {
      const float *gate = p.row_gate(b, 0) + j;
      const V u = load(first + b * p.height * p.row() + j, left) * load(gate, left);
      store(&origin[b * c + j], u * load(gate + p.height * c, left), left);
    });
  std::vector<double> partial(p.batch * p.parts() * 2 * c);
  each_part(p, [&](int64_t b, int64_t first, int64_t last, int64_t part) {
    const Rows<T> rows(p);
    const float *columns = p.row_gate(b, p.height);
    double *to = &partial[part * 2 * c];
    for (int64_t i = first; i < last; i++)
      each_vector(c, [&](int64_t j, auto left) {
        const V row = load(p.row_gate(b, i) + j, left), zero = load(&origin[b * c + j], left);
        const T *x = rows.at(p.x, b, i) + j;
        for (int64_t start = 0; start < p.width; start += SHORT) {
          V sum = {}, square = {};
          for (int64_t w = start; w < std::min(p.width, start + SHORT); w++) {
            const V u = load(x + w * c, left) * row * load(columns + w * c + j, left) - zero;
            sum += u, square = fma(u, u, square);
          }
          add_to(to + j, sum, left), add_to(to + c + j, square, left);
        }
      });
  });
  const auto sums = add_parts(p, partial);
  const double pixels = double(p.height) * p.width;
  for (int64_t i = 0; i < p.batch * c; i++) {
    const int64_t at = i / c * 2 * c + i % c;
    const double mean = sums[at] / pixels;
    p.mean[i] = float(mean + origin[i]);
    p.variance[i] = float(std::max(sums[at + c] / pixels - mean * mean, 0.0));
  }
}

template <class T>
void weigh(const Attention &p) {
  const int64_t c = p.channels;
  each_part(p, [&](int64_t b, int64_t first, int64_t last, int64_t) {
    Rows<T> rows(p);
    const float *columns = p.row_gate(b, p.height);
    for (int64_t i = first; i < last; i++) {
      const T *x[3] = {rows.at(p.x, b, i - 1), rows.at(p.x, b, i), rows.at(p.x, b, i + 1)};
      each_vector(c, [&](int64_t j, auto left) {
        V kernel[9];
        UNROLL for (int k = 0; k < 9; k++) kernel[k] = load(p.kernel + k * c + j, left);
        const V row = load(p.row_gate(b, i) + j, left), mean = load(p.mean + b * c + j, left);
        const V scale = load(p.scale + b * c + j, left);
        const V shift = load(p.shift + b * c + j, left);
        for (int64_t w = 0; w < p.width; w++) {
          const int64_t at = w * c + j;
          const V u = load(x[1] + at, left) * row * load(columns + at, left);
          V sum = fma(scale, u - mean, shift);
          each_in_window(p, w, j, [&](int r, int64_t from, int k) {
            sum = fma(load(x[r] + from, left), kernel[k], sum);
          });
          store(&rows.wide[at], sum, left);
        }
      });
      float *weights = p.weights + rows.groups_at(b, i);
      add_groups(p, rows.wide.data(), rows.narrow.data());
      each_vector(p.width * p.groups, [&](int64_t j, auto left) {
        store(weights + j, sigmoid(load(&rows.narrow[j], left)), left);
      });
      spread_groups(p, weights, rows.wide.data());
      T *out = static_cast<T *>(p.out) + (b * p.height + i) * p.row();
      each_vector(p.row(), [&](int64_t j, auto left) {
        store(out + j, load(x[1] + j, left) * load(&rows.wide[j], left), left);
      });
    }
  });
}

}  // namespace
