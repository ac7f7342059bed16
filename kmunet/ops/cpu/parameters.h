// What all tokens share: the weights, channel by channel in the lanes.
#pragma once
#include <algorithm>
#include <limits>
#include "projection.h"

namespace {

// The parameters of all directions, lane by lane, padded with zeros.
struct Parameters {
  const Problem &p;
  Aligned A, weight, bias, skip;
  const Projection projection;

  explicit Parameters(const Problem &q) : p(q), projection(q) {
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

}  // namespace
