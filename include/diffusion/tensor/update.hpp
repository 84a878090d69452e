#ifndef DIFFUSION_TENSOR_UPDATE_HPP
#define DIFFUSION_TENSOR_UPDATE_HPP

#include <diffusion/plan/lowering.hpp>
#include <diffusion/tensor/lane.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <utility>

/// The fused update: one pass over memory that converts, clips, combines, adds noise made on the
/// fly, keeps the estimate and checks that the result is finite. Every sampler runs through it.
namespace diffusion::detail {

/// What a stage reads and writes of one sample, all of `size` elements. Null where unused.
template <class S>
struct SampleBuffers {
  S* x = nullptr;              ///< the state, updated in place
  const S* f = nullptr;        ///< the network's output
  const S* learned = nullptr;  ///< the second half of its channels: learned variance
  S* saved = nullptr;
  S* keep = nullptr;                                 ///< slot that receives this estimate
  std::array<const S*, max_history> history{};       ///< slots that are read
  std::array<Compute<S>, max_noise> noise_weight{};  ///< 0: no such term
};

/// The weights of one update in the arithmetic of the state, and what to do beside the sum.
template <class S>
struct UpdateRow {
  using Real = Compute<S>;
  struct Weights {
    Real x, f, d;
    explicit Weights(const Combination& c)
        : x(static_cast<Real>(c.x)), f(static_cast<Real>(c.f)), d(static_cast<Real>(c.d)) {}
  };
  Weights result, kept;
  Real a, b;  ///< d = clip(a x + b f)
  bool clips;
  Real saved;
  bool save;
  std::array<Real, max_history> history{};
  NoiseScale::Kind noise_kind;
  Real noise_offset, noise_slope;

  UpdateRow(const Stage& stage, const LoweredStage& row)
      : result(row.result),
        kept(row.kept),
        a(static_cast<Real>(row.a)),
        b(static_cast<Real>(row.b)),
        clips(row.clips),
        saved(static_cast<Real>(stage.saved)),
        save(stage.save),
        noise_kind(stage.noise_scale.kind),
        noise_offset(static_cast<Real>(stage.noise_scale.offset)),
        noise_slope(static_cast<Real>(stage.noise_scale.slope)) {
    for (std::size_t i = 0; i < history.size(); ++i)
      history[i] = static_cast<Real>(stage.history[i].weight);
  }
};

/// clip(d) = clamp(d, -bound, bound) * scale; one pair per sample.
template <class Real>
struct ClipBound {
  Real bound = 1;
  Real scale = 1;
};

/// sum over K vectors in memory of weight * vector, lane by lane, into a cached chunk.
template <int K, class S>
void weighted_sum(const S* const* vectors, const Compute<S>* weights, std::size_t lanes,
                  Compute<S>* out) {
  for (std::size_t i = 0; i < lanes * lane_size; i += lane_size) {
    Lane<S> sum = weights[0] * load(vectors[0] + i);
    for (int k = 1; k < K; ++k) sum += weights[k] * load(vectors[k] + i);
    store(out + i, sum);
  }
}

template <class S>
void weighted_sum(int count, const S* const* vectors, const Compute<S>* weights, std::size_t lanes,
                  Compute<S>* out) {
  switch (count) {
    case 0:
      std::fill_n(out, lanes * lane_size, Compute<S>{0});
      return;
    case 1:
      return weighted_sum<1>(vectors, weights, lanes, out);
    case 2:
      return weighted_sum<2>(vectors, weights, lanes, out);
    case 3:
      return weighted_sum<3>(vectors, weights, lanes, out);
    case 4:
      return weighted_sum<4>(vectors, weights, lanes, out);
    case 5:
      return weighted_sum<5>(vectors, weights, lanes, out);
    case 6:
      return weighted_sum<6>(vectors, weights, lanes, out);
    default:
      return weighted_sum<7>(vectors, weights, lanes, out);
  }
}

/// Updates `lanes` (at most chunk_lanes) whole lanes of one sample. `noise(k, out)` puts the
/// normals of the stage's k-th noise term, for these very elements, into a chunk.
template <class S, class Noise>
void update_lanes(const UpdateRow<S>& row, const SampleBuffers<S>& at, std::size_t lanes,
                  const ClipBound<Compute<S>>& clip, Noise&& noise, FiniteCheck<S>* check) {
  using Real = Compute<S>;
  const std::size_t n = lanes * lane_size;
  alignas(64) Real sum[chunk_size];
  alignas(64) Real extra[chunk_size];  // the clipped estimate, then each noise
  alignas(64) Real kept[chunk_size];

  std::array<const S*, 7> vectors{};
  std::array<Real, 7> weights{};
  const auto gather = [&](const auto&... pairs) {
    int count = 0;
    const auto take = [&](const S* vector, Real weight) {
      if (weight == 0) return;
      vectors[static_cast<std::size_t>(count)] = vector;
      weights[static_cast<std::size_t>(count++)] = weight;
    };
    (take(pairs.first, pairs.second), ...);
    return count;
  };
  const auto accumulate = [n](Real* into, Real weight, const Real* part) {
    for (std::size_t i = 0; i < n; i += lane_size)
      store(into + i, load(into + i) + weight * load(part + i));
  };
  using Pair = std::pair<const S*, Real>;

  if (row.save) std::copy_n(at.x, n, at.saved);
  if (row.clips) {
    const int count = gather(Pair{at.x, row.a}, Pair{at.f, row.b});
    weighted_sum(count, vectors.data(), weights.data(), lanes, extra);
    if (check)  // before the clamp, which would hide what is not finite
      for (std::size_t i = 0; i < n; i += lane_size) check->see(load(extra + i));
    for (std::size_t i = 0; i < n; i += lane_size)
      store(extra + i, ((load(extra + i).max)(-clip.bound).min)(clip.bound) * clip.scale);
  }
  if (at.keep) {
    const int count = gather(Pair{at.x, row.kept.x}, Pair{at.f, row.kept.f});
    weighted_sum(count, vectors.data(), weights.data(), lanes, kept);
    if (row.kept.d != 0) accumulate(kept, row.kept.d, extra);
  }
  const int count =
      gather(Pair{at.x, row.result.x}, Pair{at.f, row.result.f}, Pair{at.saved, row.saved},
             Pair{at.history[0], row.history[0]}, Pair{at.history[1], row.history[1]},
             Pair{at.history[2], row.history[2]}, Pair{at.history[3], row.history[3]});
  weighted_sum(count, vectors.data(), weights.data(), lanes, sum);
  if (row.result.d != 0) accumulate(sum, row.result.d, extra);

  for (std::size_t k = 0; k < max_noise; ++k) {
    if (at.noise_weight[k] == 0) continue;
    noise(k, extra);
    if (row.noise_kind == NoiseScale::Kind::exponential) {
      for (std::size_t i = 0; i < n; i += lane_size) {
        const auto v = load(at.learned + i);
        store(extra + i, load(extra + i) * (row.noise_offset + row.noise_slope * v).exp());
      }
    } else if (row.noise_kind == NoiseScale::Kind::root) {
      for (std::size_t i = 0; i < n; i += lane_size)
        store(extra + i, load(extra + i) * load(at.learned + i).sqrt());
    }
    accumulate(sum, at.noise_weight[k], extra);
  }

  for (std::size_t i = 0; i < n; i += lane_size) store(at.x + i, load(sum + i));
  if (at.keep)
    for (std::size_t i = 0; i < n; i += lane_size) store(at.keep + i, load(kept + i));
  if (check)
    for (std::size_t i = 0; i < n; i += lane_size) check->see(load(at.x + i));
}

/// Updates elements [begin, end) of one sample; begin is a multiple of chunk_size, and end is the
/// sample's size or another such multiple. The last lane of a sample is worked on in a padded copy,
/// by the same code. `noise(k, element, count, out)` gives normals from `element` on.
template <class S, class Noise>
void update_sample(const UpdateRow<S>& row, const SampleBuffers<S>& sample, std::size_t begin,
                   std::size_t end, const ClipBound<Compute<S>>& clip, Noise&& noise,
                   FiniteCheck<S>* check) {
  const auto shifted = [&](std::size_t by) {
    SampleBuffers<S> at = sample;
    at.x += by;
    if (at.f) at.f += by;
    if (at.learned) at.learned += by;
    if (at.saved) at.saved += by;
    if (at.keep) at.keep += by;
    for (const S*& slot : at.history)
      if (slot) slot += by;
    return at;
  };
  const std::size_t whole = begin + (end - begin) / lane_size * lane_size;
  for (std::size_t i = begin; i < whole; i += chunk_size) {
    const std::size_t n = (std::min)(chunk_size, whole - i);
    update_lanes(
        row, shifted(i), n / lane_size, clip,
        [&](std::size_t k, Compute<S>* out) { noise(k, i, n, out); }, check);
  }
  if (whole == end) return;

  const std::size_t rest = end - whole;
  const SampleBuffers<S> tail = shifted(whole);
  S padded[5 + max_history][lane_size] = {};
  const auto in = [&](const S* from, S* copy) {
    if (from) std::copy_n(from, rest, copy);
    return from ? copy : nullptr;
  };
  SampleBuffers<S> at;
  at.noise_weight = tail.noise_weight;
  at.x = in(tail.x, padded[0]);
  at.f = in(tail.f, padded[1]);
  at.learned = in(tail.learned, padded[2]);
  at.saved = in(tail.saved, padded[3]);
  at.keep = in(tail.keep, padded[4]);
  for (std::size_t k = 0; k < max_history; ++k) at.history[k] = in(tail.history[k], padded[5 + k]);
  update_lanes(
      row, at, 1, clip,
      [&](std::size_t k, Compute<S>* out) {
        std::fill_n(out, lane_size, Compute<S>{0});
        noise(k, whole, rest, out);
      },
      check);
  std::copy_n(at.x, rest, tail.x);
  if (tail.saved && row.save) std::copy_n(at.saved, rest, tail.saved);
  if (tail.keep) std::copy_n(at.keep, rest, tail.keep);
}

}  // namespace diffusion::detail

#endif  // DIFFUSION_TENSOR_UPDATE_HPP
