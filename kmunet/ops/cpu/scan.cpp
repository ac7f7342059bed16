// The selective scan on a CPU, forward and backward, over channels-last tokens.
//   h_t = exp(dt_t A) h_(t-1) + dt_t x_t B_t,  y_t = <C_t, h_t> + D x_t,
//   dt_t = softplus(W r_t + bias), or a given delta.
// Channels lie in the lanes of a vector. Each direction visits the tokens in its own
// order, by index; the outputs of all directions are added in place. Forward keeps the
// state before every STEPS steps, backward recomputes the others from it. Every sum has
// an order that does not depend on the number of threads.
#include <memory>
#include "gate.h"
#include "kan.h"
#include "norm.h"
#include "segment.h"
#include "sum.h"
#include "threads.h"

namespace {

struct Forward : Segment {
  using Segment::Segment;
  V y[STEPS][BLOCKS];
  Aligned own;  // the states, where none are kept

  // One direction of an image, some blocks of channels, into y or added to it.
  void run(int64_t b, int64_t k, int64_t first, int64_t last, float *to, bool add) {
    for (int64_t s = 0; s < p.segments(); s++) {
      open(b, k, s, s + 1);
      if (p.projects()) project_x(false);
      for (int64_t w = first; w < last; w++) block(w, s, to, add);
    }
  }
  void block(int64_t w, int64_t s, float *to, bool add) {
    const V *skip = weights.skip.data + weights.at(direction, w, 1);
    prepare<false>(w);
    for (int t = 0; t < steps; t++)
      for (int b = 0; b < BLOCKS; b++) y[t][b] = skip[b] * x[t][b];
    const V *A = weights.A.data + weights.at(direction, w, padded);
    V *before = states(s) + w * padded * BLOCKS;
    V *after = states(s + 1) + w * padded * BLOCKS;
    for (int64_t n = 0; n < padded; n += GROUP) {
      prefetch(n, w, ahead, steps_ahead, {p.x});
      prefetch(n, w, token, steps, {to});
      scan(A + n * BLOCKS, before + n * BLOCKS, after + n * BLOCKS, n);
    }
    for (int t = 0; t < steps; t++)
      store(to + offset(t) + w * WIDTH, y[t], channels(w), add);
  }
  // The states before segment s; those after the last are not kept.
  V *states(int64_t s) {
    if (!own.data) own.reset(2 * p.state_size());
    if (!p.kept) return own.data + p.state_size();
    if (s == p.segments()) return own.data;
    const int64_t line = image * p.directions + direction;
    return reinterpret_cast<V *>(p.kept) + (line * p.segments() + s) * p.state_size();
  }
  __attribute__((noinline)) void scan(const V *A, V *before, V *after, int64_t column) {
    V a[GROUP][BLOCKS], h[GROUP][BLOCKS];
    std::memcpy(a, A, sizeof a);
    if (from == 0) std::memset(static_cast<void *>(before), 0, sizeof h);
    std::memcpy(h, before, sizeof h);
    for (int t = 0; t < steps; t++) {
      const float *B = rows[t] + column, *C = B + to_C;
      V sum[BLOCKS];
      for (int b = 0; b < BLOCKS; b++) sum[b] = y[t][b];
      UNROLL for (int n = 0; n < GROUP; n++) {
        const V in = broadcast(B[n]), out = broadcast(C[n]);
        UNROLL for (int b = 0; b < BLOCKS; b++) {
          h[n][b] = fma(power2_of(dt[t][b], a[n][b]), h[n][b], input[t][b] * in);
          sum[b] = fma(h[n][b], out, sum[b]);
        }
      }
      for (int b = 0; b < BLOCKS; b++) y[t][b] = sum[b];
    }
    std::memcpy(static_cast<void *>(after), h, sizeof h);
  }
};

// Sums over the steps of one image and direction, a channel in a lane.
struct Sums {
  V *A, *weight, *bias, *skip, *projection;
};

struct Backward : Segment {
  V dy[STEPS][BLOCKS], d_dt[STEPS][BLOCKS], d_input[STEPS][BLOCKS];
  V state[STEPS + 1][GROUP][BLOCKS], decay[STEPS][GROUP][BLOCKS];
  Aligned carry, across;  // g from the segment after; per step and row, lanes to be added
  ProjectionGradients back;
  const int64_t stride;      // rows of a step: dt, B and C
  std::vector<float> added;  // of one step, where nothing is projected

  Backward(const Problem &q, const Parameters &w)
      : Segment(q, w), back(w.projection), stride(p.padded_rows()) {
    carry.reset(p.state_size());
    across.reset(STEPS * stride + LANES);
    added.resize(stride + LANES);
  }
  void run(int64_t b, int64_t k, float *dx, bool add, const Sums &sums) {
    for (int64_t s = p.segments(); s-- > 0;) {
      open(b, k, s, s - 1);
      if (p.projects()) project_x(true);
      for (int64_t w = 0; w < p.wide(); w++) block(w, s, dx, add, sums);
      p.projects() ? unproject(dx, add, sums) : finish();
    }
  }
  void block(int64_t w, int64_t s, float *dx, bool add, const Sums &all) {
    prepare<true>(w);
    for (int t = 0; t < steps; t++)
      load(dy[t], p.dy + offset(t) + w * WIDTH, channels(w));
    const int64_t size = padded * BLOCKS, line = image * p.directions + direction;
    const V *kept = reinterpret_cast<const V *>(p.kept) +
                    (line * p.segments() + s) * p.state_size() + w * size;
    const V *A = weights.A.data + weights.at(direction, w, padded);
    for (int64_t n = 0; n < padded; n += GROUP) {
      const int64_t i = n * BLOCKS;
      prefetch(n, w, ahead, steps_ahead, {p.x, p.dy});
      prefetch(n, w, token, steps, {dx});
      recompute(A + i, kept + i, n);
      reverse(A + i, carry.data + w * size + i, all.A + w * size + i, n, w > 0);
    }
    close(w, dx, add, all);
  }
  __attribute__((noinline)) void recompute(const V *A, const V *kept, int64_t column) {
    V a[GROUP][BLOCKS], h[GROUP][BLOCKS];
    std::memcpy(a, A, sizeof a);
    std::memcpy(h, kept, sizeof h);
    if (from == 0) std::memset(static_cast<void *>(h), 0, sizeof h);
    std::memcpy(static_cast<void *>(state[0]), h, sizeof h);
    for (int t = 0; t < steps; t++) {
      const float *B = rows[t] + column;
      UNROLL for (int n = 0; n < GROUP; n++) {
        const V in = broadcast(B[n]);
        UNROLL for (int b = 0; b < BLOCKS; b++) {
          const V e = power2_of(dt[t][b], a[n][b]);
          decay[t][n][b] = e;
          state[t + 1][n][b] = h[n][b] = fma(e, h[n][b], input[t][b] * in);
        }
      }
    }
  }
  __attribute__((noinline)) void reverse(const V *A, V *later, V *sum_A, int64_t first,
                                         bool more) {
    V a[GROUP][BLOCKS], g[GROUP][BLOCKS], dA[GROUP][BLOCKS];
    std::memcpy(a, A, sizeof a);
    std::memcpy(g, later, sizeof g);
    std::memcpy(dA, sum_A, sizeof dA);
    if (from + steps == p.length()) std::memset(static_cast<void *>(g), 0, sizeof g);
    for (int t = steps; t-- > 0;) {
      const float *B = rows[t] + first, *C = B + to_C;
      V *sum_B = across.data + t * stride + rank + first, *sum_C = sum_B + padded;
      V by_dt[BLOCKS], by_input[BLOCKS];
      for (int b = 0; b < BLOCKS; b++) {
        by_dt[b] = first ? d_dt[t][b] : V{};
        by_input[b] = first ? d_input[t][b] : V{};
      }
      UNROLL for (int n = 0; n < GROUP; n++) {
        const V in = broadcast(B[n]), out = broadcast(C[n]);
        V dB = more ? sum_B[n] : V{}, dC = more ? sum_C[n] : V{};
        UNROLL for (int b = 0; b < BLOCKS; b++) {
          const V own = fma(dy[t][b], out, g[n][b]);
          dC = fma(dy[t][b], state[t + 1][n][b], dC);
          dB = fma(input[t][b], own, dB);
          by_input[b] = fma(own, in, by_input[b]);
          g[n][b] = decay[t][n][b] * own;
          const V slope = g[n][b] * state[t][n][b];  // gradient of dt A
          by_dt[b] = fma(slope, a[n][b], by_dt[b]);
          dA[n][b] = fma(slope, dt[t][b], dA[n][b]);
        }
        sum_B[n] = dB, sum_C[n] = dC;
      }
      for (int b = 0; b < BLOCKS; b++) d_dt[t][b] = by_dt[b], d_input[t][b] = by_input[b];
    }
    std::memcpy(static_cast<void *>(later), g, sizeof g);
    std::memcpy(static_cast<void *>(sum_A), dA, sizeof dA);
  }
  // From the gradients of dt and dt x to those of x, the projection, bias and skip.
  void close(int64_t w, float *dx, bool add, const Sums &all) {
    const int64_t at = weights.at(direction, w, 1);
    V bias[BLOCKS], skip[BLOCKS], factor[BLOCKS];
    for (int b = 0; b < BLOCKS; b++) {
      factor[b] = weights.skip.data[at + b];
      bias[b] = all.bias[w * BLOCKS + b], skip[b] = all.skip[w * BLOCKS + b];
    }
    const V ln2 = broadcast(0.693147180559945f);  // A was scaled for powers of 2
    for (int t = 0; t < steps; t++) {
      V d_x[BLOCKS];
      UNROLL for (int b = 0; b < BLOCKS; b++) {
        V d_raw = fma(d_input[t][b], x[t][b], d_dt[t][b] * ln2);
        if (p.softplus) d_raw *= slope[t][b];
        d_x[b] = fma(d_input[t][b], dt[t][b], factor[b] * dy[t][b]);
        skip[b] = fma(dy[t][b], x[t][b], skip[b]);
        bias[b] += d_raw;
        d_dt[t][b] = d_raw;
      }
      if (p.projects()) {
        std::copy(d_x, d_x + BLOCKS, back.dx_of(w, t));
        continue;
      }
      store(p.ddelta + delta(t, w), d_dt[t], channels(w), false);
      store(dx + offset(t) + w * WIDTH, d_x, channels(w), add);
    }
    for (int b = 0; b < BLOCKS; b++)
      all.bias[w * BLOCKS + b] = bias[b], all.skip[w * BLOCKS + b] = skip[b];
    const V *weight = weights.weight.data + weights.at(direction, w, rank);
    for (int64_t r = 0; r < rank; r++)
      close_factor(r, weight + r * BLOCKS, all.weight + (w * rank + r) * BLOCKS, w > 0);
  }
  // d_dt is now the gradient before softplus: on to weight[r] and to the factor r of dt.
  __attribute__((noinline)) void close_factor(int64_t r, const V *weight, V *to,
                                              bool more) {
    V own[BLOCKS], factor[BLOCKS];
    for (int b = 0; b < BLOCKS; b++) own[b] = to[b], factor[b] = weight[b];
    for (int t = 0; t < steps; t++) {
      const V low = broadcast(projected.factors_of(t)[r]);
      V &sum = across.data[t * stride + r], lanes = more ? sum : V{};
      UNROLL for (int b = 0; b < BLOCKS; b++) {
        own[b] = fma(d_dt[t][b], low, own[b]);
        lanes = fma(d_dt[t][b], factor[b], lanes);
      }
      sum = lanes;
    }
    for (int b = 0; b < BLOCKS; b++) to[b] = own[b];
  }
  // Add the lanes of each row, and go on to x and the weights of the projection.
  void unproject(float *dx, bool add, const Sums &all) {
    for (int t = 0; t < steps; t++)
      add_lanes(across.data + t * stride, back.of(t), stride);
    for (int64_t w = 0; w < p.wide(); w++) {
      back.to_x(direction, w, steps);
      for (int t = 0; t < steps; t++)
        store(dx + offset(t) + w * WIDTH, back.dx_of(w, t), channels(w), add);
      back.to_weights(projected.x.data + w * BLOCKS, projected.line, steps,
                      all.projection + w * weights.projection.rows * BLOCKS);
    }
  }
  // The gradients of B and C that were given.
  void finish() {
    for (int t = 0; t < steps; t++) {
      const V *sums = across.data + t * stride;
      float *to = p.dproj + at(t);
      if (padded == p.states) {
        add_lanes(sums, to, stride);
        continue;
      }
      add_lanes(sums, added.data(), stride);
      copy(added.data(), to, p.states);
      copy(added.data() + padded, to + p.states, p.states);
    }
  }
};

template <class Worker, class Task>
void parallel(const Problem &p, const Parameters &weights, int64_t tasks, Task task) {
  auto make = [&] { return std::unique_ptr<Worker>(new Worker(p, weights)); };
  share(p.threads, tasks, make, task);
}

// Where the directions that share an array write: in turn into the array itself, or
// apart where several are under way at once, and added afterwards. The same sums.
struct Directions {
  const Problem &p;
  float *to;
  const bool apart;
  const int64_t total;
  std::unique_ptr<float[]> others;

  Directions(const Problem &q, float *array, bool at_once)
      : p(q), to(array), apart(q.shared && at_once),
        total(p.batch * p.length() * p.columns()),
        others(apart ? new float[(p.directions - 1) * total] : nullptr) {}
  float *of(int64_t k) { return apart && k > 0 ? others.get() + (k - 1) * total : to; }
  bool adds(int64_t k) const { return p.shared && !apart && k > 0; }
  void add() {
    if (!apart) return;
    share_rows(p.threads, total, 1 << 14, [&](int64_t first, int64_t last) {
      for (int64_t k = 1; k < p.directions; k++)
        for (int64_t i = first; i < last; i++) to[i] += of(k)[i];
    });
  }
};

void forward(const Problem &p) {
  const Parameters weights(p);
  // Whole images where they share out evenly; else a direction at a time, if need be a
  // block of channels of it, for which all is projected once more.
  const int64_t K = p.directions;
  const bool even = p.batch % p.threads == 0, few = p.batch * K < p.threads;
  const int64_t parts = even || (p.projects() && !few) ? 1 : p.wide();
  const bool whole = p.batch * parts % p.threads == 0;
  Directions y(p, p.y, !whole);
  const int64_t lines = whole ? 1 : K;
  parallel<Forward>(p, weights, p.batch * parts * lines, [&](Forward &worker, int64_t i) {
    const int64_t w = i / lines % parts, last = parts == 1 ? p.wide() : w + 1;
    for (int64_t k = i % lines; k < K; k += lines)
      worker.run(i / lines / parts, k, w, last, y.of(k), y.adds(k));
  });
  y.add();
}

void backward(const Problem &p) {
  const Parameters weights(p);
  const int64_t K = p.directions, lines = p.batch * K;
  const int64_t projected = p.projects() ? weights.projection.rows : 0;
  Sum A(p, p.padded()), weight(p, p.rank), bias(p, 1), skip(p, 1), rows(p, projected);
  auto of = [&](int64_t i) {
    return Sums{A.of(i), weight.of(i), bias.of(i), skip.of(i), rows.of(i)};
  };
  // Whole images where they share out evenly; else a direction at a time, and the
  // gradients of x are added afterwards, in the same order.
  const bool whole = p.shared && p.batch % p.threads == 0;
  Directions dx(p, p.dx, !whole);
  const int64_t tasks = whole ? p.batch : lines, step = whole ? K : 1;
  parallel<Backward>(p, weights, tasks, [&](Backward &worker, int64_t i) {
    for (int64_t line = i * step; line < (i + 1) * step; line++)
      worker.run(line / K, line % K, dx.of(line % K), dx.adds(line % K), of(line));
  });
  dx.add();
  for (Sum *sum : {&A, &weight, &bias, &skip, &rows}) sum->add();
  A.write(p.states, p.dA);
  weight.write(p.rank, p.dweight);
  bias.write(1, p.dbias);
  skip.write(1, p.dskip);
  if (!p.projects()) return;
  const Sum::Strides to{p.rows() * p.channels, p.channels, 1};
  const int64_t before = p.rank + p.states;
  rows.write(0, before, to, p.dprojection);
  rows.write(p.rank + p.padded(), p.states, to, p.dprojection + before * p.channels);
}

}  // namespace

extern "C" {

// The threads to share tasks out to from now on; none: those of each call itself.
void kmunet_use_team(Team found) { team = found, team_of = getpid(); }

// Floats of `kept`, and lanes, of this build.
int64_t kmunet_kept_size(const Problem *p) {
  return p->kept_states() +
         p->batch * p->directions * p->segments() * p->kept_projected();
}

KMUNET_ENTRY(forward, Problem)
KMUNET_ENTRY(backward, Problem)

// exp of `count` numbers, for tests; `repeat` times, for the machine's limit.
void kmunet_exp(const float *x, float *y, int64_t count, int64_t repeat) {
  const V log2e = broadcast(1.44269504088896f);
  for (int64_t i = 0; i < repeat; i++)
    for (int64_t j = 0; j + LANES <= count; j += LANES)
      store_vector(y + j, power2_of(load_vector(x + j), log2e));
}

void kmunet_softplus(const float *x, float *y, int64_t count) {
  V slope;
  for (int64_t j = 0; j + LANES <= count; j += LANES)
    store_vector(y + j, softplus(load_vector(x + j), slope));
}

}  // extern "C"
