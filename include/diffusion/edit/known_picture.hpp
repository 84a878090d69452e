#ifndef DIFFUSION_EDIT_KNOWN_PICTURE_HPP
#define DIFFUSION_EDIT_KNOWN_PICTURE_HPP

#include <diffusion/error.hpp>
#include <diffusion/plan/plan.hpp>
#include <diffusion/sampling/run_noise.hpp>
#include <diffusion/tensor/lane.hpp>
#include <diffusion/tensor/normals.hpp>
#include <diffusion/tensor/state.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

/// A picture that is known, at the levels that a run goes through: what inpainting, differential
/// image to image and ILVR have in common.
namespace diffusion {

/// Where the noise of a known picture comes from, when it is brought to the level of a state.
enum class KnownNoise {
  fresh,  ///< new for each stage: draws after those of the run, so it may be the run's own source
  /// One for the whole run: draw 0 of the source. Of the run's own source that is the noise which
  /// the run starts from.
  fixed,
  draw,  ///< the first draw of the stage itself, as diffusers' RePaint does
};

namespace detail {

/// A source of an edit: one by address is copied, one in order is referred to.
template <class N>
constexpr void require_edit_source() {
  static_assert(NoiseSource<std::remove_cvref_t<N>>,
                "a noise source needs fill(sample, draw, element, span<float>) const, or "
                "fill(span<float>) and fill(span<double>)");
  static_assert(AddressedNoise<std::remove_cvref_t<N>> || std::is_lvalue_reference_v<N>,
                "a sequential noise source is referred to: it must outlive the run, so give it a "
                "name");
}

/// Numbers that an edit is given: a picture, a mask. Each extent is that of the state, or 1: then
/// it is repeated along that dimension. Tensor owns memory and is of the state's kind.
template <State Tensor>
class Repeated {
 public:
  using Real = Compute<ScalarOf<Tensor>>;
  using Shape = ShapeOf<Tensor>;

  /// `what` begins messages. Fails where a number is not finite.
  template <ReadableState X>
  Repeated(const char* what, const X& x) : what_(what), shape_(StateTraits<X>::shape(x)) {
    require_extents(what, shape_);
    const auto* data = StateTraits<X>::data(x);
    given_.assign(data, data + blocks_of<Tensor>(shape_, false).total());
    for (std::size_t i = 0; i < given_.size(); ++i)
      if (!is_finite(static_cast<double>(given_[i])))
        fail(text(what, " holds ", static_cast<double>(given_[i]), " as element ", i,
                  "; every number must be finite"));
  }

  /// Fails where a number lies outside [0, 1].
  void require_unit() const {
    for (std::size_t i = 0; i < given_.size(); ++i)
      if (!(given_[i] >= 0 && given_[i] <= 1))
        fail(text(what_, " holds ", static_cast<double>(given_[i]), " as element ", i,
                  "; every number must lie in [0, 1]"));
  }

  /// Prepares for states of this shape; fails where it does not fit.
  void fit(const Shape& shape) {
    for (std::size_t d = 0; d < shape.size(); ++d)
      if (shape_[d] != shape[d] && shape_[d] != 1)
        fail(text(what_, " has the shape ", shape_text(shape_), "; each dimension must be that of ",
                  "the state, ", shape_text(shape), ", or 1"));
    values_.clear();
    if (shape_ == shape)
      values_ = given_;
    else
      repeat(shape);
  }

  /// Element i of the state, in the order of memory, after `fit`.
  Real operator[](std::size_t i) const { return values_[i]; }
  std::size_t size() const { return values_.size(); }

 private:
  void repeat(const Shape& shape) {
    const std::size_t total = blocks_of<Tensor>(shape, false).total();
    values_.reserve(total);
    for (std::size_t i = 0; i < total; ++i) values_.push_back(given_[source_of(i, shape)]);
  }
  std::size_t source_of(std::size_t i, const Shape& shape) const {
    std::size_t at = 0, stride = 1;
    for (std::size_t k = 0; k < shape.size(); ++k) {  // from the fastest dimension on
      const std::size_t d = StateTraits<Tensor>::row_major ? shape.size() - 1 - k : k;
      const auto extent = static_cast<std::size_t>(shape[d]);
      if (shape_[d] != 1) at += i % extent * stride;
      stride *= static_cast<std::size_t>(shape_[d]);
      i /= extent;
    }
    return at;
  }

  const char* what_;
  Shape shape_;
  std::vector<Real> given_, values_;
};

/// A known picture y with its noise n: alpha y + sigma n at any level. `Held`: the noise source,
/// or a reference to one that gives its numbers in order.
template <State Tensor, class Held>
class KnownPicture {
 public:
  using Real = typename Repeated<Tensor>::Real;

  template <ReadableState X, class N>
  KnownPicture(const X& picture, N&& source, KnownNoise kind)
      : picture_("the known picture", picture), source_(source), kind_(kind) {
    require_enumerator("KnownNoise", kind, 3);
  }

  KnownNoise kind() const { return kind_; }

  /// Before the first stage: fails where picture, plan or source do not fit the run; afterwards
  /// `at` gives the picture at the run's start (with KnownNoise::draw no noise is there yet).
  template <class Run>
  void start(const Run& run) {
    const auto& shape = StateTraits<Tensor>::shape(run.state());
    blocks_ = blocks_of<Tensor>(shape, run.options().batch);
    picture_.fit(shape);
    normals_.assign(blocks_.total(), Real{0});
    if (kind_ == KnownNoise::draw) return require_draws_of(run.plan());
    const std::size_t after = first_draw(run.plan());
    require_draws(source_, kind_ == KnownNoise::fixed ? 1 : after + run.plan().stages.size() + 1,
                  blocks_);
    draw(kind_ == KnownNoise::fixed ? 0 : after);
  }

  /// After a stage: noise for the level where it has led.
  template <class Run>
  void next(const Run& run) {
    if (normals_.empty()) fail("an edit is used before its edit_start was called with the run");
    if (kind_ == KnownNoise::fixed) return;
    if (kind_ == KnownNoise::fresh)
      return draw(first_draw(run.plan()) + static_cast<std::size_t>(run.stage_number()));
    if (run.last().noise[0].source < 0) return;  // it leads to clean data
    for (std::size_t sample = 0; sample < blocks_.batch; ++sample)
      for (std::size_t i = 0; i < blocks_.size; i += chunk_size)
        run.fill_draw(0, sample, i,
                      std::span<Real>(normals_.data() + sample * blocks_.size + i,
                                      (std::min)(chunk_size, blocks_.size - i)));
  }

  /// Element i of the picture at a level.
  Real at(std::size_t i, const Knot& level) const {
    return static_cast<Real>(level.alpha) * picture_[i] +
           static_cast<Real>(level.sigma) * normals_[i];
  }
  std::size_t size() const { return normals_.size(); }
  const Repeated<Tensor>& picture() const { return picture_; }

 private:
  static void require_draws_of(const PlanView& plan) {
    for (int i = 0; i < plan.size(); ++i) {
      const Stage& stage = plan.stages[static_cast<std::size_t>(i)];
      if (stage.ask && stage.to.sigma > 0 && stage.noise[0].source < 0)
        fail(text("KnownNoise::draw takes the noise of each stage, but stage ", i, " of ",
                  plan.size(), " has none; choose KnownNoise::fresh"));
    }
  }
  /// A run takes the draws 0 (its initial state) to draws().
  static std::size_t first_draw(const PlanView& plan) {
    return static_cast<std::size_t>(plan.draws()) + 1;
  }
  void draw(std::size_t number) {
    for_each_normal<Real>(source_, number, blocks_,
                          [this](std::size_t i, Real n) { normals_[i] = n; });
  }

  Repeated<Tensor> picture_;
  Held source_;
  KnownNoise kind_;
  Blocks blocks_;
  std::vector<Real> normals_;
};

}  // namespace detail
}  // namespace diffusion

#endif  // DIFFUSION_EDIT_KNOWN_PICTURE_HPP
