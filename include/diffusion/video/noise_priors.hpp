#ifndef DIFFUSION_VIDEO_NOISE_PRIORS_HPP
#define DIFFUSION_VIDEO_NOISE_PRIORS_HPP

#include <diffusion/error.hpp>
#include <diffusion/noise/noise.hpp>
#include <diffusion/tensor/normals.hpp>
#include <diffusion/video/frame_layout.hpp>

#include <Eigen/Core>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

/// Noise for clips whose frames have something in common. Each source here is made of an addressed
/// source and is one itself: the noise of frame f is a weighted sum of the noises that the inner
/// source has for the frames of the clip, with weights whose squares sum to 1.
namespace diffusion {

/// Which draws of a run a noise prior shapes.
enum class FrameDraws {
  all,      ///< the initial state and what the sampler adds
  initial,  ///< draw 0 alone; later draws are the inner source's own
};

/// One part of a frame's noise: weight times the inner source's noise of a frame, or times the
/// noise that all frames of a clip share. Plain data: threads may share what none of them writes.
struct FrameTerm {
  std::uint64_t frame = 0;
  double weight = 1;
  bool shared = false;  ///< the second source's noise; `frame` is not read
};

/// An addressed noise source for clips: frame f has the noise sum_k weight_k z_k over the terms of
/// row f, where z_k is the inner source's noise of frame k of the same clip at the same place of
/// the frame. Standard normal in every element, correlated over frames as `covariance()` says,
/// independent within a frame, over clips and over draws. Made by mixed_noise, progressive_noise,
/// correlated_noise and free_noise, or of rows of your own. Keeps what the inner source promises:
/// any block at any time, the same numbers however calls are split; first_sample, Brownian paths
/// and seeds work as before. Computed in float. Immutable; safe to share between threads if the
/// inner source is.
template <AddressedNoise Source>
class FrameNoise {
 public:
  /// The terms of every frame.
  using Rows = std::vector<std::vector<FrameTerm>>;

  /// One row per frame; its squared weights sum to 1 (to 1e-6), its terms name frames of the clip.
  FrameNoise(Source source, std::optional<Source> shared, const FrameLayout& layout, Rows rows,
             FrameDraws draws = FrameDraws::all)
      : source_(std::move(source)),
        shared_(std::move(shared)),
        layout_(layout),
        draws_(draws),
        rows_(std::make_shared<const Rows>(std::move(rows))) {
    layout_.check();
    detail::require_enumerator("FrameDraws", draws, 2);
    check_rows();
  }

  const FrameLayout& layout() const { return layout_; }
  const Rows& rows() const { return *rows_; }

  /// The covariance of the noises of two frames at the same place, (frames, frames), 1 on the
  /// diagonal.
  Eigen::MatrixXd covariance() const {
    const auto frames = static_cast<Eigen::Index>(layout_.frames);
    Eigen::MatrixXd weights = Eigen::MatrixXd::Zero(frames, frames + 1);
    for (Eigen::Index f = 0; f < frames; ++f)
      for (const FrameTerm& term : (*rows_)[static_cast<std::size_t>(f)])
        weights(f, term.shared ? frames : static_cast<Eigen::Index>(term.frame)) += term.weight;
    return weights * weights.transpose();
  }

  /// The normals of elements element, element + 1, ... of a draw of a sample; `element` is a
  /// multiple of `noise_block`.
  void fill(std::uint64_t sample, std::uint64_t draw, std::uint64_t element,
            std::span<float> out) const {
    write(sample, draw, element, out);
  }

  /// The same normals, widened.
  void fill(std::uint64_t sample, std::uint64_t draw, std::uint64_t element,
            std::span<double> out) const {
    write(sample, draw, element, out);
  }

  /// Fails where a sample of a run is not a clip of the layout, or the inner source cannot deliver.
  void require(std::uint64_t samples, std::uint64_t draws, std::uint64_t elements) const {
    layout_.require_elements(elements);
    const std::uint64_t clips =
        layout_.inner == 0 ? (samples + layout_.frames - 1) / layout_.frames : samples;
    if constexpr (requires { source_.require(samples, draws, elements); }) {
      source_.require(layout_.inner == 0 ? clips * layout_.frames : samples, draws, elements);
      if (shared_)
        shared_->require(clips, draws, elements / (layout_.inner == 0 ? 1 : layout_.frames));
    }
  }

 private:
  // Sums are made in chunks of one length, so that an element does not depend on the call.
  static constexpr std::size_t chunk = 64;

  void check_rows() const {
    if (rows_->size() != layout_.frames)
      fail(detail::text("the noise has rows for ", rows_->size(), " frames; the clip has ",
                        layout_.frames));
    for (std::size_t f = 0; f < rows_->size(); ++f) {
      double squares = 0;
      for (const FrameTerm& term : (*rows_)[f]) {
        if (term.shared && !shared_)
          fail(detail::text("row ", f, " weighs shared noise; the source has none"));
        if (!term.shared && term.frame >= layout_.frames)
          fail(detail::text("row ", f, " weighs the noise of frame ", term.frame,
                            "; the clip has frames 0 to ", layout_.frames - 1));
        squares += term.weight * term.weight;
      }
      if (!(std::abs(squares - 1) < 1e-6))
        fail(detail::text("the weights of frame ", f, " have squares that sum to ", squares,
                          "; it must be 1, the variance of the noise"));
    }
  }

  template <class Scalar>
  void write(std::uint64_t sample, std::uint64_t draw, std::uint64_t element,
             std::span<Scalar> out) const {
    if (element % noise_block != 0)
      fail(detail::text("noise was asked for from element ", element, "; it must be a multiple of ",
                        noise_block));
    const bool plain = draw > 0 && draws_ == FrameDraws::initial;
    layout_.for_each_run(
        sample, element, out.size(),
        [&](std::uint64_t frame, std::size_t begin, std::size_t count) {
          for (std::size_t i = begin; i < begin + count; i += chunk) {
            const std::size_t n = (std::min)(chunk, begin + count - i);
            alignas(64) float sum[chunk] = {};
            if (plain)
              read(source_, {sample, element + i}, draw, n, 1, sum);
            else
              for (const FrameTerm& term : (*rows_)[static_cast<std::size_t>(frame)])
                read(term.shared ? *shared_ : source_, place_of(term, sample, element + i), draw, n,
                     static_cast<float>(term.weight), sum);
            std::copy_n(sum, n, out.data() + i);
          }
        });
  }

  FrameLayout::Place place_of(const FrameTerm& term, std::uint64_t sample,
                              std::uint64_t element) const {
    return term.shared ? layout_.in_still(sample, element)
                       : layout_.in_frame(sample, element, term.frame);
  }

  /// sum += weight z for n normals from a place that need not begin a block.
  static void read(const Source& source, const FrameLayout::Place& at, std::uint64_t draw,
                   std::size_t n, float weight, float* sum) {
    alignas(64) float normals[chunk + noise_block] = {};
    const std::uint64_t first = at.element / noise_block * noise_block;
    const auto skip = static_cast<std::size_t>(at.element - first);
    source.fill(at.sample, draw, first, std::span<float>(normals, skip + n));
    for (std::size_t i = 0; i < chunk; ++i) sum[i] += weight * normals[skip + i];
  }

  Source source_;
  std::optional<Source> shared_;
  FrameLayout layout_;
  FrameDraws draws_;
  std::shared_ptr<const Rows> rows_;
};

/// Options of mixed_noise and progressive_noise. Plain data: threads may share what none of them
/// writes.
struct FrameNoiseOptions {
  double alpha = 1;  ///< how much the frames share, at least 0; 0: independent frames
  FrameDraws draws = FrameDraws::all;
};

namespace detail {

/// A matrix L with L L^T = covariance, lower triangular; directions without variance are allowed.
inline Eigen::MatrixXd triangular_root(const Eigen::MatrixXd& covariance) {
  const Eigen::Index n = covariance.rows();
  Eigen::MatrixXd root = Eigen::MatrixXd::Zero(n, n);
  constexpr double rounding = 1e-9;
  for (Eigen::Index j = 0; j < n; ++j) {
    const double pivot = covariance(j, j) - root.row(j).head(j).squaredNorm();
    const bool empty = pivot < rounding;
    root(j, j) = empty ? 0 : std::sqrt(pivot);
    for (Eigen::Index i = j + 1; i < n; ++i) {
      const double rest = covariance(i, j) - root.row(i).head(j).dot(root.row(j).head(j));
      if (pivot < -rounding || (empty && std::abs(rest) > 1e-4))
        fail(text("the covariance of frames is not positive semidefinite: frames ", j, " and ", i,
                  " contradict those before them"));
      root(i, j) = empty ? 0 : rest / root(j, j);
    }
    if (pivot < -rounding)
      fail(text("the covariance of frames is not positive semidefinite: frame ", j,
                " contradicts those before it"));
  }
  return root;
}

}  // namespace detail

/// Mixed noise (PYoCo, Ge et al. 2023, arXiv 2305.10474): every frame has a part that all frames of
/// the clip share and a part of its own,
///
///     eps_f = sqrt(a^2 / (1 + a^2)) shared + sqrt(1 / (1 + a^2)) own_f,
///
/// so the covariance of two frames is a^2 / (1 + a^2). `shared` is a source of another seed: a
/// clip's shared noise is that of a still picture of it. Fails where both are the same source: its
/// frame 0 would be counted twice.
template <AddressedNoise Source>
FrameNoise<Source> mixed_noise(Source own, Source shared, const FrameLayout& layout,
                               const FrameNoiseOptions& options = {}) {
  detail::require_range("FrameNoiseOptions::alpha", options.alpha, 0.0, 1e6);
  layout.check();
  if constexpr (requires { own == shared; })
    if (own == shared)
      fail(
          "mixed noise has the same source for the shared and the own part; give them different "
          "seeds");
  const double norm = std::sqrt(1 + options.alpha * options.alpha);
  std::vector<std::vector<FrameTerm>> rows;
  for (std::uint64_t f = 0; f < layout.frames; ++f) {
    rows.push_back({{f, 1 / norm, false}});
    if (options.alpha > 0) rows.back().push_back({0, options.alpha / norm, true});
  }
  return {std::move(own), std::move(shared), layout, std::move(rows), options.draws};
}

/// Progressive noise (PYoCo, Ge et al. 2023, arXiv 2305.10474): each frame's noise goes on from
/// that of the frame before,
///
///     eps_0 = own_0,   eps_f = r eps_(f-1) + sqrt(1 - r^2) own_f,   r = a / sqrt(1 + a^2),
///
/// so the covariance of frames f and g is r^|f - g|. Parts that weigh less than 1e-9 are left out.
template <AddressedNoise Source>
FrameNoise<Source> progressive_noise(Source own, const FrameLayout& layout,
                                     const FrameNoiseOptions& options = {}) {
  detail::require_range("FrameNoiseOptions::alpha", options.alpha, 0.0, 1e6);
  layout.check();
  const double norm = std::sqrt(1 + options.alpha * options.alpha);
  const double r = options.alpha / norm;
  std::vector<std::vector<FrameTerm>> rows;
  for (std::uint64_t f = 0; f < layout.frames; ++f) {
    std::vector<FrameTerm> row{{f, f == 0 ? 1.0 : 1 / norm, false}};
    double weight = row[0].weight * r;  // of what lies one frame back
    for (std::uint64_t k = f; k-- > 0; weight *= r) {
      const double last = k == 0 ? weight * norm : weight;  // own_0 has the whole variance
      if (last < 1e-9) break;
      row.push_back({k, last, false});
    }
    rows.push_back(std::move(row));
  }
  return {std::move(own), std::nullopt, layout, std::move(rows), options.draws};
}

/// Noise with any covariance over frames: (frames, frames), symmetric, positive semidefinite, 1 on
/// the diagonal.
template <AddressedNoise Source>
FrameNoise<Source> correlated_noise(Source own, const FrameLayout& layout,
                                    const Eigen::MatrixXd& covariance,
                                    FrameDraws draws = FrameDraws::all) {
  const auto frames = static_cast<Eigen::Index>(layout.frames);
  if (covariance.rows() != frames || covariance.cols() != frames)
    fail(detail::text("the covariance of frames is ", covariance.rows(), "x", covariance.cols(),
                      "; the clip has ", frames, " frames"));
  for (Eigen::Index f = 0; f < frames; ++f)
    for (Eigen::Index g = 0; g <= f; ++g) {
      const double value = covariance(f, g);
      if (!detail::is_finite(value) || !(std::abs(value - covariance(g, f)) < 1e-9))
        fail(detail::text("the covariance of frames ", f, " and ", g, " is ", value, " and ",
                          covariance(g, f), "; it must be finite and symmetric"));
      if (f == g && !(std::abs(value - 1) < 1e-9))
        fail(detail::text("the variance of frame ", f, " is ", value, "; it must be 1"));
    }
  const Eigen::MatrixXd root = detail::triangular_root(covariance);
  std::vector<std::vector<FrameTerm>> rows(static_cast<std::size_t>(frames));
  for (Eigen::Index f = 0; f < frames; ++f)
    for (Eigen::Index k = f; k >= 0; --k)
      if (std::abs(root(f, k)) > 1e-9)
        rows[static_cast<std::size_t>(f)].push_back(
            {static_cast<std::uint64_t>(k), root(f, k), false});
  return {std::move(own), std::nullopt, layout, std::move(rows), draws};
}

}  // namespace diffusion

#endif  // DIFFUSION_VIDEO_NOISE_PRIORS_HPP
