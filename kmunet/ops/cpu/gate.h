// Layer norm of y times SiLU(z), a pixel a row, and back. Nothing is kept but y and z:
// a row's mean and deviation are found again.
#pragma once
#include <cmath>
#include "kan.h"

namespace {

struct Gate {  // as in gate.py; y, z, out and their gradients (rows, channels)
  int64_t rows, channels, threads;
  double epsilon;
  const float *y, *z, *weight, *bias;
  float *out;
  const float *dout;
  float *dy, *dz, *dweight, *dbias;
};

constexpr int64_t GATE_PART = 256, GATE_SHORT = 32;  // rows a task, rows added in float32

// Of one row: 1 / deviation, and the mean.
struct Row {
  V mean, inverse;
  Row(const Gate &p, const float *y) {
    V sum = {}, square = {};
    for (int64_t j = 0; j < p.channels; j += LANES)
      sum += load_some(y + j, p.channels - j);
    mean = add_across(sum) / broadcast(float(p.channels));
    for (int64_t j = 0; j < p.channels; j += LANES) {
      V x = load_some(y + j, p.channels - j) - mean;
      if (p.channels - j < LANES) x = load_lanes(x, p.channels - j);
      square = fma(x, x, square);
    }
    const float variance = add_across(square)[0] / p.channels;
    inverse = broadcast(1 / std::sqrt(variance + float(p.epsilon)));
  }
  // The first `count` lanes, zero beyond.
  static V load_lanes(V v, int64_t count) {
    float lanes[LANES];
    store_vector(lanes, v);
    return load_some(lanes, count);
  }
};

inline void gate_forward(const Gate &p, int64_t row) {
  const int64_t at = row * p.channels;
  const Row own(p, p.y + at);
  for (int64_t j = 0; j < p.channels; j += LANES) {
    const int64_t left = p.channels - j;
    const V n = (load_some(p.y + at + j, left) - own.mean) * own.inverse;
    const V z = load_some(p.z + at + j, left);
    const V norm = fma(n, load_some(p.weight + j, left), load_some(p.bias + j, left));
    store_some(p.out + at + j, norm * (z * sigmoid(z)), left);
  }
}

// Adds to d_weight and d_bias (vectors of the channels); `scaled` is room for a row.
inline void gate_backward(const Gate &p, int64_t row, V *d_weight, V *d_bias, V *scaled) {
  const int64_t at = row * p.channels;
  const Row own(p, p.y + at);
  V sum = {}, along = {};
  for (int64_t j = 0, i = 0; j < p.channels; j += LANES, i++) {
    const int64_t left = p.channels - j;
    const V n = (load_some(p.y + at + j, left) - own.mean) * own.inverse;
    const V z = load_some(p.z + at + j, left), s = sigmoid(z);
    const V weight = load_some(p.weight + j, left), g = load_some(p.dout + at + j, left);
    const V norm = fma(n, weight, load_some(p.bias + j, left));
    const V slope = s * fma(z, 1.0f - s, broadcast(1.0f));
    store_some(p.dz + at + j, g * norm * slope, left);
    const V d_norm = g * (z * s);
    d_weight[i] = fma(d_norm, n, d_weight[i]);
    d_bias[i] += d_norm;
    scaled[i] = d_norm * weight;
    sum += scaled[i], along = fma(scaled[i], n, along);
  }
  const V mean = add_across(sum) / broadcast(float(p.channels));
  const V slope = add_across(along) / broadcast(float(p.channels));
  for (int64_t j = 0, i = 0; j < p.channels; j += LANES, i++) {
    const int64_t left = p.channels - j;
    const V n = (load_some(p.y + at + j, left) - own.mean) * own.inverse;
    store_some(p.dy + at + j, own.inverse * (scaled[i] - fma(n, slope, mean)), left);
  }
}

void gate_forward(const Gate &p) {
  share_rows(p.threads, p.rows, GATE_PART, [&](int64_t first, int64_t last) {
    for (int64_t row = first; row < last; row++) gate_forward(p, row);
  });
}

void gate_backward(const Gate &p) {
  const int64_t wide = (p.channels + LANES - 1) / LANES, width = 2 * wide * LANES;
  const int64_t parts = (p.rows + GATE_PART - 1) / GATE_PART;
  std::vector<double> partial(parts * width), sums(width);
  share_rows(p.threads, p.rows, GATE_PART, [&](int64_t first, int64_t last) {
    Aligned room;
    room.reset(3 * wide);
    double *to = partial.data() + first / GATE_PART * width;
    for (int64_t row = first; row < last; row += GATE_SHORT) {
      std::memset(static_cast<void *>(room.data), 0, 2 * wide * sizeof(V));
      for (int64_t i = row; i < std::min(last, row + GATE_SHORT); i++)
        gate_backward(p, i, room.data, room.data + wide, room.data + 2 * wide);
      const float *lanes = reinterpret_cast<const float *>(room.data);
      for (int64_t j = 0; j < width; j++) to[j] += double(lanes[j]);
    }
  });
  for (int64_t i = 0; i < parts; i++)
    for (int64_t j = 0; j < width; j++) sums[j] += partial[i * width + j];
  for (int64_t c = 0; c < p.channels; c++) {
    p.dweight[c] = float(sums[c]);
    p.dbias[c] = float(sums[wide * LANES + c]);
  }
}

}  // namespace

extern "C" {
KMUNET_ENTRY(gate_forward, Gate)
KMUNET_ENTRY(gate_backward, Gate)
}  // extern "C"
