#ifndef DIFFUSION_GUIDANCE_FREQUENCY_DECOUPLED_HPP
#define DIFFUSION_GUIDANCE_FREQUENCY_DECOUPLED_HPP

#include <diffusion/guidance/classifier_free.hpp>
#include <diffusion/guidance/laplacian_pyramid.hpp>

#include <algorithm>
#include <cstddef>
#include <utility>
#include <vector>

namespace diffusion {

/// Guidance in one band of frequencies. Plain data: threads may share what none of them writes.
struct FrequencyBand {
  double scale = 1;     ///< as GuidanceOptions::scale
  double parallel = 1;  ///< how much of the difference along c is kept, as ProjectedOptions::eta
  double rescale = 0;   ///< 0 to 1: rescaling in this band
  GuidanceInterval interval{};  ///< when guidance is on in this band
};

/// The rule of frequency-decoupled guidance (Sadat et al. 2025, arXiv 2506.19713): u and c are
/// split into bands by a Laplacian pyramid, each band is guided with a scale of its own, fine
/// details more than the coarse picture, and the bands are put together again. Bands go from the
/// finest to the coarsest. Of a sample the two dimensions that are fastest in memory are height and
/// width; its other planes go each by itself, but projections and rescaling take all of them
/// together. On the predictions as they are. Not thread-safe: it holds buffers.
class FrequencyDecoupledRule : public TwoBranchRule {
 public:
  /// GuidanceOptions::scale, scales and scale_at are not read; its rescale is that of the whole,
  /// its interval holds beside those of the bands. Fails without bands, for options outside their
  /// ranges, and, when sampling, for pictures too small for so many bands.
  explicit FrequencyDecoupledRule(std::vector<FrequencyBand> bands, GuidanceOptions options = {})
      : TwoBranchRule(std::move(options)), bands_(std::move(bands)) {
    if (bands_.empty()) fail("FrequencyDecoupledRule has 0 bands; it needs at least 1");
    for (const FrequencyBand& band : bands_) {
      detail::require_finite("FrequencyBand::scale", band.scale);
      detail::require_finite("FrequencyBand::parallel", band.parallel);
      detail::require_range("FrequencyBand::rescale", band.rescale, 0.0, 1.0);
      detail::check(band.interval);
    }
  }

  bool asks(std::size_t branch, const Query& query, std::size_t batch) const {
    if (branch == main()) return true;
    return detail::any_inside(options(), query, batch) &&
           std::any_of(bands_.begin(), bands_.end(),
                       [&](const FrequencyBand& band) { return band.scale != neutral(); });
  }

  template <class S>
  void operator()(const BranchPredictions<S>& f, S* out) {
    if (!f[0] || !detail::holds(options().interval, f.query()))
      return detail::answer(f, main(), out);
    split(f, f[1], with_);
    split(f, f[0], without_);
    for (std::size_t k = 0; k < bands_.size(); ++k)
      if (bands_[k].scale != neutral() && detail::holds(bands_[k].interval, f.query())) guide(k);
    for (const auto& pyramid : with_) {
      const Plane plane = from_laplacian_pyramid(pyramid);
      out = std::transform(plane.values.begin(), plane.values.end(), out,
                           [](double value) { return static_cast<S>(value); });
    }
  }

 private:
  using Pyramids = std::vector<std::vector<Plane>>;  // of each plane of the sample

  template <class S>
  void split(const BranchPredictions<S>& f, const S* values, Pyramids& pyramids) const {
    const auto extents = f.extents();
    if (extents.size() < 2)
      fail(detail::text("FrequencyDecoupledRule needs samples with height and width; they have ",
                        extents.size(), " dimensions"));
    Plane plane;
    plane.height = static_cast<std::size_t>(extents[extents.size() - 2]);
    plane.width = static_cast<std::size_t>(extents[extents.size() - 1]);
    const std::size_t area = plane.height * plane.width;
    pyramids.clear();
    for (const S* end = values + f.size(); values != end; values += area) {
      plane.values.assign(values, values + area);
      pyramids.push_back(laplacian_pyramid(plane, bands_.size()));
    }
  }

  /// Band k of all planes: that of c becomes the guided one.
  void guide(std::size_t k) {
    const FrequencyBand& band = bands_[k];
    gather(with_, k, c_);
    gather(without_, k, u_);
    const std::size_t n = c_.size();
    double along = 0;  // of c, in c - u
    if (band.parallel != 1) {
      const double cc = detail::dot(c_.data(), c_.data(), n);
      along = (cc - detail::dot(c_.data(), u_.data(), n)) / (std::max)(cc, 1e-24);
    }
    guided_.resize(n);
    for (std::size_t i = 0; i < n; ++i) {
      const double shift = c_[i] - u_[i] + (band.parallel - 1) * along * c_[i];
      guided_[i] = (base() == 0 ? u_[i] : c_[i]) + band.scale * shift;
    }
    if (band.rescale > 0) rescale_guided(guided_.data(), c_.data(), n, band.rescale);
    auto from = guided_.begin();
    for (auto& pyramid : with_) {
      auto& values = pyramid[k].values;
      std::copy_n(from, values.size(), values.begin());
      from += static_cast<std::ptrdiff_t>(values.size());
    }
  }

  static void gather(const Pyramids& pyramids, std::size_t k, std::vector<double>& all) {
    all.clear();
    for (const auto& pyramid : pyramids)
      all.insert(all.end(), pyramid[k].values.begin(), pyramid[k].values.end());
  }

  std::vector<FrequencyBand> bands_;
  Pyramids with_, without_;
  std::vector<double> c_, u_, guided_;
};

}  // namespace diffusion

#endif  // DIFFUSION_GUIDANCE_FREQUENCY_DECOUPLED_HPP
