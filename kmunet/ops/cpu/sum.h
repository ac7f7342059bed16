// A gradient of weights: sums of every image and direction apart, added in one order.
#pragma once
#include <algorithm>
#include "problem.h"
#include "threads.h"

namespace {

// Sums of `n` rows [row][channel] for every block of channels, line by line.
struct Sum {
  const Problem &p;
  const int64_t n, size;
  Aligned lines;

  Sum(const Problem &q, int64_t rows) : p(q), n(rows), size(p.wide() * rows * BLOCKS) {
    lines.reset(std::max<int64_t>(p.batch, 1) * p.directions * size);  // or zeros
  }
  V *of(int64_t line) { return lines.data + line * size; }
  // All images' into the first one's, in their order.
  void add() {
    const int64_t total = p.directions * size;
    share_rows(p.threads, total, 1 << 12, [&](int64_t first, int64_t last) {
      for (int64_t b = 1; b < p.batch; b++)
        for (int64_t i = first; i < last; i++) lines.data[i] += lines.data[b * total + i];
    });
  }
  // Rows from `first` on, `count` of them: row j, channel d of direction k to
  // to[k * directions + j * rows + d * channels].
  struct Strides {
    int64_t direction, row, channel;
  };
  void write(int64_t first, int64_t count, Strides to, float *out) const {
    if (!out) return;
    const float *lanes = reinterpret_cast<const float *>(lines.data);
    for (int64_t k = 0; k < p.directions; k++)
      for (int64_t d = 0; d < p.channels; d++) {
        const int64_t block = (k * p.wide() + d / WIDTH) * n + first;
        for (int64_t j = 0; j < count; j++)
          out[k * to.direction + j * to.row + d * to.channel] =
              lanes[(block + j) * WIDTH + d % WIDTH];
      }
  }
  // As (K, channels, rows).
  void write(int64_t count, float *out) const {
    write(0, count, {p.channels * count, 1, count}, out);
  }
};

}  // namespace
