// The backward passes of attention.cpp.
#pragma once
#include "attention.h"

namespace {

// From the gradient of `out` those of the score, and of kernel, scale and shift.
template <class T>
void score_gradient(const Attention &p) {
  const int64_t c = p.channels, width = 11 * c;
  std::vector<double> partial(p.batch * p.parts() * width);
  each_part(p, [&](int64_t b, int64_t first, int64_t last, int64_t part) {
    Rows<T> rows(p);
    const float *columns = p.row_gate(b, p.height);
    double *to = &partial[part * width];
    for (int64_t i = first; i < last; i++) {
      const T *x[3] = {rows.at(p.x, b, i - 1), rows.at(p.x, b, i), rows.at(p.x, b, i + 1)};
      const T *dout = rows.at(p.dout, b, i);
      each_vector(p.row(), [&](int64_t j, auto left) {
        store(&rows.wide[j], load(x[1] + j, left) * load(dout + j, left), left);
      });
      add_groups(p, rows.wide.data(), rows.narrow.data());
      const float *weights = p.weights + rows.groups_at(b, i);
      float *dscore = p.dscore + rows.groups_at(b, i);
      each_vector(p.width * p.groups, [&](int64_t j, auto left) {
        const V s = load(weights + j, left);
        store(dscore + j, s * (1.0f - s) * load(&rows.narrow[j], left), left);
      });
      spread_groups(p, dscore, rows.wide.data());
      each_vector(c, [&](int64_t j, auto left) {
        const V row = load(p.row_gate(b, i) + j, left), mean = load(p.mean + b * c + j, left);
        for (int64_t start = 0; start < p.width; start += SHORT) {
          V sums[11] = {};
          for (int64_t w = start; w < std::min(p.width, start + SHORT); w++) {
            const int64_t at = w * c + j;
            const V g = load(&rows.wide[at], left);
            each_in_window(p, w, j, [&](int r, int64_t from, int k) {
              sums[k] = fma(load(x[r] + from, left), g, sums[k]);
            });
            const V u = load(x[1] + at, left) * row * load(columns + at, left) - mean;
            sums[9] = fma(u, g, sums[9]), sums[10] += g;
          }
          for (int k = 0; k < 11; k++) add_to(to + k * c + j, sums[k], left);
        }
      });
    }
  });
  const auto sums = add_parts(p, partial);
  for (int64_t j = 0; j < 9 * c; j++) {
    double sum = 0;
    for (int64_t b = 0; b < p.batch; b++) sum += sums[b * width + j];
    p.dkernel[j] = float(sum);
  }
  for (int64_t i = 0; i < p.batch * c; i++) {
    p.dscale[i] = float(sums[i / c * width + 9 * c + i % c]);
    p.dshift[i] = float(sums[i / c * width + 10 * c + i % c]);
  }
}

// du / dx, but for the gates: of one vector of channels.
struct Affine {
  V row, mean, scale, slope, constant;
  const float *columns;
  Affine(const Attention &p, int64_t b, int64_t i, int64_t j, int64_t left)
      : row(load(p.row_gate(b, i) + j, left)),
        mean(load(p.mean + b * p.channels + j, left)),
        scale(load(p.scale + b * p.channels + j, left)),
        slope(load(p.slope + b * p.channels + j, left)),
        constant(load(p.constant + b * p.channels + j, left)),
        columns(p.row_gate(b, p.height) + j) {}
  V at(V u, V dscore) const {
    return fma(slope, u - mean, fma(scale, dscore, constant));
  }
};

template <class T>
void gate_gradient(const Attention &p) {
  auto open = [&](Rows<T> &rows, int64_t b, int64_t i) {
    spread_groups(p, p.dscore + rows.groups_at(b, i), rows.wide.data());
  };
  struct Own { Affine du; const float *dscore; };
  auto make = [&](Rows<T> &rows, int64_t b, int64_t i, int64_t j, auto left) {
    return Own{Affine(p, b, i, j, left), &rows.wide[j]};
  };
  auto step = [&](const Own &own, V x, int64_t w, auto left, V &row, V &column) {
    const int64_t at = w * p.channels;
    const V gate = load(own.du.columns + at, left), dscore = load(own.dscore + at, left);
    const V product = x * own.du.at(x * own.du.row * gate, dscore);
    row = fma(product, gate, row), column = fma(product, own.du.row, column);
  };
  add_lines<T>(p, p.dgates, 1, 1, open, make, step);
}

// The gradient of x, all parts together.
template <class T>
void pixel_gradient(const Attention &p) {
  const int64_t c = p.channels;
  const float by_row = 1.0f / p.width, by_column = 1.0f / p.height;
  each_part(p, [&](int64_t b, int64_t first, int64_t last, int64_t) {
    Rows<T> rows(p);
    std::vector<float> spread[3];  // dscore of the rows around, row i in i % 3
    for (auto &row : spread) row.resize(p.row());
    auto fill = [&](int64_t i) {
      float *to = spread[(i + 3) % 3].data();
      if (i < 0 || i >= p.height) return std::fill(to, to + p.row(), 0.0f);
      spread_groups(p, p.dscore + rows.groups_at(b, i), to);
    };
    fill(first - 1), fill(first);
    const float *along = p.dmeans + (b * (p.height + p.width) + p.height) * c;
    for (int64_t i = first; i < last; i++) {
      fill(i + 1);
      spread_groups(p, p.weights + rows.groups_at(b, i), rows.wide.data());
      const float *d[3];  // the window upside down: row 0 of the kernel meets i + 1
      for (int r = 0; r < 3; r++) d[r] = spread[(i + 1 - r + 3) % 3].data();
      const T *x = rows.at(p.x, b, i), *dout = rows.at(p.dout, b, i);
      T *dx = static_cast<T *>(p.dx) + (b * p.height + i) * p.row();
      const float *across = p.dmeans + (b * (p.height + p.width) + i) * c;
      each_vector(c, [&](int64_t j, auto left) {
        V kernel[9];
        UNROLL for (int k = 0; k < 9; k++)  // and from right to left
          kernel[k] = load(p.kernel + (k / 3 * 3 + 2 - k % 3) * c + j, left);
        const Affine du(p, b, i, j, left);
        const V same = load(across + j, left) * by_row;
        for (int64_t w = 0; w < p.width; w++) {
          const int64_t at = w * c + j;
          const V gate = load(du.columns + w * c, left);
          const V u = load(x + at, left) * du.row * gate;
          const V by_u = du.at(u, load(d[1] + at, left)) * du.row;
          V sum = fma(load(along + at, left), broadcast(by_column), same);
          sum = fma(by_u, gate, sum);
          sum = fma(load(dout + at, left), load(&rows.wide[at], left), sum);
          each_in_window(p, w, j, [&](int r, int64_t from, int k) {
            sum = fma(load(d[r] + from, left), kernel[k], sum);
          });
          store(dx + at, sum, left);
        }
      });
    }
  });
}

}  // namespace
