// Batch norm and ReLU over channels-last pixels, y = max(0, scale (x - mean) + bias), and back.
// Sums run over short parts in float32, over the parts in float64 and in their order:
// torch's channels-last sums lose three digits at a million pixels. Sums and what uses
// them are two calls: between them ranks may add theirs.
#pragma once
#include <cmath>
#include "threads.h"

namespace {

struct Norm {  // as in norm.py; x, y, dy, dx (rows, channels), the others (channels)
  int64_t rows, channels, threads;
  double total, epsilon;  // rows of all ranks
  double *moments;        // [2][channels], as each function says
  const float *x, *weight, *bias;
  float *y, *mean, *inverse, *variance;  // of the batch; variance with n, not n - 1
  const float *dy;
  float *dx;
};

constexpr int64_t PART = 256, SHORT = 32;  // rows a task, rows added in float32

// Rows [first, last), SHORT of them at a time: for each block of channels
// make(j, left), then run(that, row, end, j, left); `left` is constant if it can be.
template <class Make, class Run>
void each_block(const Norm &p, int64_t first, int64_t last, Make make, Run run) {
  for (int64_t row = first; row < last; row += SHORT) {
    const int64_t end = std::min(last, row + SHORT);
    int64_t j = 0;
    const std::integral_constant<int64_t, LANES> all;
    for (; j + LANES <= p.channels; j += LANES) run(make(j, LANES), row, end, j, all);
    const int64_t left = p.channels - j;
    if (left) run(make(j, left), row, end, j, left);
  }
}

// sums[2][channels] over all rows of what step(made, at, left, a, b) adds to a and b.
template <class Make, class Step>
std::vector<double> add_rows(const Norm &p, Make make, Step step) {
  const int64_t parts = (p.rows + PART - 1) / PART, width = 2 * p.channels;
  std::vector<double> partial(parts * width), sums(width);
  share_rows(p.threads, p.rows, PART, [&](int64_t first, int64_t last) {
    double *to = partial.data() + first / PART * width;
    auto run = [&](auto made, int64_t row, int64_t end, int64_t j, auto left) {
      V a = {}, b = {};
      for (; row < end; row++) step(made, row * p.channels + j, left, a, b);
      for (int64_t l = 0; l < left; l++) {
        to[j + l] += double(a[l]);
        to[p.channels + j + l] += double(b[l]);
      }
    };
    each_block(p, first, last, make, run);
  });
  for (int64_t i = 0; i < parts; i++)
    for (int64_t j = 0; j < width; j++) sums[j] += partial[i * width + j];
  return sums;
}

// step(made, at, left) for each vector of all rows.
template <class Make, class Step>
void map_rows(const Norm &p, Make make, Step step) {
  share_rows(p.threads, p.rows, PART, [&](int64_t first, int64_t last) {
    auto run = [&](auto made, int64_t row, int64_t end, int64_t j, auto left) {
      for (; row < end; row++) step(made, row * p.channels + j, left);
    };
    each_block(p, first, last, make, run);
  });
}

// What comes before ReLU: the same arithmetic forward and backward.
struct Line {
  V scale, mean, bias;
  Line(const Norm &p, int64_t j, int64_t left)
      : scale(load_some(p.weight + j, left) * load_some(p.inverse + j, left)),
        mean(load_some(p.mean + j, left)), bias(load_some(p.bias + j, left)) {}
  V at(V x) const { return fma(scale, x - mean, bias); }
  V open(V x, V dy) const { return at(x) > 0.0f ? dy : V{}; }  // as ReLU let y through
};

// moments: each channel's mean, and the sum of squared deviations from it.
void norm_moments(const Norm &p) {
  // About the first row, so that a mean far from 0 costs no digits.
  auto origin = [&](int64_t j, int64_t left) { return load_some(p.x + j, left); };
  const auto sums = add_rows(p, origin, [&](V zero, int64_t at, auto left, V &a, V &b) {
    const V x = load_some(p.x + at, left) - zero;
    a += x, b = fma(x, x, b);
  });
  for (int64_t c = 0; c < p.channels; c++) {
    const double mean = p.rows ? sums[c] / p.rows : 0;
    p.moments[c] = p.rows ? mean + p.x[c] : 0;
    p.moments[p.channels + c] = std::max(sums[p.channels + c] - mean * sums[c], 0.0);
  }
}

// moments: of all ranks' rows.
void norm_forward(const Norm &p) {
  for (int64_t c = 0; c < p.channels; c++) {
    const double variance = p.moments[p.channels + c] / p.total;
    p.mean[c] = float(p.moments[c]);
    p.variance[c] = float(variance);
    p.inverse[c] = float(1 / std::sqrt(variance + p.epsilon));
  }
  auto make = [&](int64_t j, int64_t left) { return Line(p, j, left); };
  map_rows(p, make, [&](const Line &line, int64_t at, auto left) {
    store_some(p.y + at, positive(line.at(load_some(p.x + at, left))), left);
  });
}

// moments: sums of dy and of dy (x - mean), where ReLU let y through.
void norm_slopes(const Norm &p) {
  auto make = [&](int64_t j, int64_t left) { return Line(p, j, left); };
  const auto sums =
      add_rows(p, make, [&](const Line &line, int64_t at, auto left, V &a, V &b) {
        const V x = load_some(p.x + at, left);
        const V g = line.open(x, load_some(p.dy + at, left));
        a += g, b = fma(g, x - line.mean, b);
      });
  std::copy(sums.begin(), sums.end(), p.moments);
}

// moments: those sums, of all ranks.
void norm_backward(const Norm &p) {
  std::vector<float> by_x(p.channels), constant(p.channels);
  for (int64_t c = 0; c < p.channels; c++) {
    const double inverse = p.inverse[c], along = p.moments[p.channels + c] * inverse;
    by_x[c] = float(-along * inverse / p.total);  // times x - mean
    constant[c] = float(-p.moments[c] / p.total);
  }
  struct Own { Line line; V by_x, constant; };
  auto make = [&](int64_t j, int64_t left) {
    return Own{Line(p, j, left), load_some(&by_x[j], left), load_some(&constant[j], left)};
  };
  map_rows(p, make, [&](const Own &own, int64_t at, auto left) {
    const V x = load_some(p.x + at, left);
    const V g = own.line.open(x, load_some(p.dy + at, left)) + own.constant;
    store_some(p.dx + at, own.line.scale * fma(x - own.line.mean, own.by_x, g), left);
  });
}

}  // namespace

extern "C" {
KMUNET_ENTRY(norm_moments, Norm)
KMUNET_ENTRY(norm_forward, Norm)
KMUNET_ENTRY(norm_slopes, Norm)
KMUNET_ENTRY(norm_backward, Norm)
}  // extern "C"
