#ifndef DIFFUSION_VIDEO_ROLLING_HPP
#define DIFFUSION_VIDEO_ROLLING_HPP

#include <diffusion/denoiser/denoiser.hpp>
#include <diffusion/sampling/sample.hpp>
#include <diffusion/sampling/sliced_core.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <type_traits>
#include <utility>
#include <vector>

namespace diffusion {

/// How a FrameQueue moves. With n steps of the plan: lag = 1, a window of n frames and blocks of 1
/// is FIFO-Diffusion; a window of w frames with lag = n / w is rolling diffusion; blocks of several
/// frames are what streaming policies execute at once. Plain data: threads may share what none of
/// them writes.
struct FrameQueueOptions {
  int lag = 1;            ///< steps that a block is behind the one before, at least 1
  std::size_t block = 1;  ///< frames that go in step, at least 1
  /// Finished frames that stay in the window when they have been handed out, for the network to
  /// see.
  std::size_t context = 0;
};

/// A stream of frames without an end: a window in which the first frame is nearly clean and the
/// last nearly noise. When the first is clean it is handed out, the others move up with everything
/// that belongs to them (history, saved state, stage), and new noise enters behind. Any sampler;
/// Heun and its like ask more than once for a step.
///
/// FIFO-Diffusion: Kim et al. 2024, arXiv 2405.11473 (its partitions and look-ahead are
/// LookaheadDenoiser). Rolling diffusion: Ruhe et al. 2024, arXiv 2402.09470. Streaming policies:
/// Hoeg et al. 2024, arXiv 2406.04806.
///
///     FrameQueue<Clip, PhiloxNoise> queue(plan, {16, 3, 32, 32}, 0, PhiloxNoise{42});
///     while (playing) show(queue.next(network));
///
/// At first all frames are noise, and frame k starts when block k / block is due. Frame number n of
/// stream b of B (samples of a batch, where the frames lie along another dimension) has the noise
/// of sample n B + b of the source, elements counted in the frame: it does not depend on where in
/// the window the frame stands. So with a network that treats frames alone, frame n is, bit for
/// bit, what a plain run makes of sample n.
///
/// Nothing is allocated after construction, except what `pop` returns. Not thread-safe; many may
/// share one plan, which must outlive them.
template <State T, AddressedNoise Noise>
class FrameQueue {
  static_assert(!detail::is_view<T>, "a queue owns its window: give the tensor's own type");
  using Traits = StateTraits<T>;
  using Scalar = ScalarOf<T>;
  using Core = detail::SlicedCore<Scalar, Noise>;

 public:
  /// `window`: the shape of the state, of which `dimension` counts frames. Fails where the window
  /// is too short: a frame must be inside when it starts, steps <= lag ((frames - context) /
  /// block).
  FrameQueue(PlanView plan, const ShapeOf<T>& window, int dimension, const Noise& noise,
             const FrameQueueOptions& options = {}, const SampleOptions& sampling = {},
             const std::optional<ShapeOf<T>>& output_shape = std::nullopt)
      : options_(options),
        shape_(window),
        dimension_(dimension),
        along_batch_(detail::along_batch<T>(dimension, window, sampling.batch)),
        output_(Traits::make(check(plan, window, dimension, options, sampling, output_shape))),
        x_(Traits::make(window)),
        core_(plan, sampling, blocks_of<T>(window, sampling.batch),
              blocks_of<T>(Traits::shape(output_), sampling.batch).size,
              detail::layout_of<T>(Slices::along(dimension), window, sampling.batch), noise,
              addressed(window, dimension, sampling.batch)),
        scaled_(Traits::make(window)) {
    std::fill_n(Traits::data(output_), blocks_of<T>(Traits::shape(output_), false).total(),
                std::numeric_limits<Scalar>::quiet_NaN());
    core_.give_streams(std::vector<std::uint64_t>(core_.slices()));
    for (std::size_t slot = 0; slot < frames(); ++slot) enter(slot);
    core_.settle(Traits::data(x_));
    go_on();
  }

  /// Starts in the middle of the stream, where the window is full: `data` (a clip, the actions of
  /// the last plan) is noised, each frame to the level that it has when the first is about to be
  /// finished. Only before the first tick; with samplers of one step only.
  void warm_up(const T& data) {
    require_fresh(data, "the data to warm up with");
    for (std::size_t slot = 0; slot < frames(); ++slot) start_at(data, slot, warm_step(slot));
    round_ = plan().steps() - options_.lag;
    core_.settle(Traits::data(x_));
    go_on();
  }

  /// Continues a clip: the first `count` frames of `data` are known and count as handed out. Only
  /// before the first tick; `count` at most FrameQueueOptions::context.
  void continue_from(const T& data, std::size_t count) {
    require_fresh(data, "the clip to continue");
    detail::require_range("the number of known frames", count, std::size_t{0}, options_.context);
    for (std::size_t slot = 0; slot < count; ++slot) start_at(data, slot, plan().steps());
    next_ = count;
    round_ = options_.lag * static_cast<std::int64_t>(count / options_.block);
    go_on();
  }

  /// Whether the next frame is finished; then `pop` takes it out. Else the network is to be asked.
  bool ready() const { return core_.at_end(slice(static_cast<std::size_t>(next_ - front_), 0)); }
  bool asks() const { return !ready(); }

  /// What the network is given and told: see SlicedStepper. The slices are the window's frames.
  const T& input() {
    if (!core_.scales_input()) return x_;
    core_.scale_input(Traits::data(std::as_const(x_)), Traits::data(scaled_));
    return scaled_;
  }
  Query query() const {
    require_tick();
    return core_.query();
  }
  T& output() { return output_; }

  /// Takes the network's output; a tick, as in a SlicedStepper.
  void advance() {
    require_tick();
    check_output();
    core_.advance(Traits::data(x_), Traits::data(std::as_const(output_)));
    go_on();
  }
  bool finite() const { return core_.finite(); }

  /// Takes out the finished frame (a tensor of one frame) and lets a new one in.
  T pop() {
    if (!ready()) fail("the first frame of the queue is not finished; ask the network and advance");
    const auto slot = static_cast<std::size_t>(next_ - front_);
    ShapeOf<T> one = shape_;
    one[static_cast<std::size_t>(dimension_)] = 1;
    T frame = Traits::make(one);
    Scalar* to = Traits::data(frame);
    for (std::size_t b = 0; b < streams(); ++b, to += frame_size())
      core_.for_each_stretch(
          slice(slot, b), [&](std::size_t begin, std::size_t within, std::size_t count) {
            std::copy_n(Traits::data(std::as_const(x_)) + begin, count, to + within);
          });
    ++next_;
    if (next_ - front_ > options_.context) shift();
    go_on();
    return frame;
  }

  /// Asks the denoiser until a frame is finished, and takes it out. Fails where it is not finite.
  template <class D>
  T next(D&& denoiser) {
    static_assert(QueryingDenoiser<D, T>,
                  "the frames of a queue stand at several times: its denoiser must be callable as "
                  "(const Tensor& x, const Query& query, Tensor& out), and look at query.times");
    const PredictionType type = core_.options().prediction_type;
    const PredictionType declared = prediction_type_of(denoiser, type);
    if (declared != type)
      fail(detail::text("the denoiser predicts ", name(declared), "; the queue was made for ",
                        name(type), " (SampleOptions::prediction_type)"));
    while (!ready()) {
      denoiser(input(), query(), output());
      advance();
      if (!finite())
        fail(detail::text("the window is not finite after ", ticks(),
                          " network calls; look at the network's output, the prediction type and "
                          "the range of the data"));
    }
    return pop();
  }

  /// The window as it is, the number of its first frame, and of the frame that is handed out next.
  const T& window() const { return x_; }
  std::uint64_t front() const { return front_; }
  std::uint64_t next_frame() const { return next_; }
  /// The frames of the window, and the step to which each has come.
  std::size_t frames() const { return along_batch_ ? core_.slices() : core_.parts(); }
  int step(std::size_t slot) const { return core_.step(slice(slot, 0)); }
  const Knot& level(std::size_t slot) const { return core_.level(slice(slot, 0)); }
  int ticks() const { return core_.network_calls(); }
  const PlanView& plan() const { return core_.plan(); }

 private:
  static ShapeOf<T> check(const PlanView& plan, const ShapeOf<T>& window, int dimension,
                          const FrameQueueOptions& options, const SampleOptions& sampling,
                          const std::optional<ShapeOf<T>>& output_shape) {
    detail::require_at_least("FrameQueueOptions::lag", options.lag, 1);
    detail::require_at_least("FrameQueueOptions::block", options.block, std::size_t{1});
    Stepper<T, Noise>::check(plan, window, sampling, output_shape);
    Core::check(plan, sampling);
    detail::layout_of<T>(Slices::along(dimension), window, sampling.batch);
    const auto frames = static_cast<std::size_t>(window[static_cast<std::size_t>(dimension)]);
    const auto lag = static_cast<std::size_t>(options.lag);
    const auto steps = static_cast<std::size_t>(plan.steps());
    const std::size_t needed = options.context + options.block * ((steps + lag - 1) / lag);
    if (frames < needed)
      fail(detail::text("the window has ", frames, " frames; ", steps, " steps with a lag of ", lag,
                        " and blocks of ", options.block, " need at least ", needed,
                        options.context > 0 ? ", the context included" : ""));
    return output_shape ? *output_shape
                        : default_output_shape<T>(window, plan.learns_variance(), sampling.batch);
  }
  /// The samples and elements that noise is asked for: a frame is a sample.
  static Blocks addressed(const ShapeOf<T>& window, int dimension, bool batched) {
    const std::size_t total = blocks_of<T>(window, false).total();
    const std::size_t batch = blocks_of<T>(window, batched).batch;
    const std::size_t slices =
        detail::along_batch<T>(dimension, window, batched)
            ? batch
            : batch * static_cast<std::size_t>(window[static_cast<std::size_t>(dimension)]);
    return {slices, total / slices};
  }

  std::size_t streams() const { return core_.slices() / frames(); }
  std::size_t frame_size() const { return core_.blocks().total() / core_.slices(); }
  std::size_t slice(std::size_t slot, std::size_t stream) const { return stream * frames() + slot; }

  std::int64_t behind(std::uint64_t frame) const {
    return options_.lag * static_cast<std::int64_t>(frame / options_.block);
  }
  int due(std::uint64_t frame) const {
    const std::int64_t steps = plan().steps();
    return static_cast<int>((std::clamp)(round_ - behind(frame), std::int64_t{0}, steps));
  }
  int warm_step(std::size_t slot) const {
    return (std::max)(0, plan().steps() - options_.lag - static_cast<int>(behind(slot)));
  }

  // A new frame of noise in a slot.
  void enter(std::size_t slot) {
    for (std::size_t b = 0; b < streams(); ++b) {
      core_.streams()[slice(slot, b)] = (front_ + slot) * streams() + b;
      with_normals(slot, b, plan().traits.initial_scale, 0, nullptr);
      core_.place(slice(slot, b), 0);
    }
  }
  // A frame of data at the level where a step starts.
  void start_at(const T& data, std::size_t slot, int step) {
    const bool done = step == plan().steps();
    const int stage = detail::first_stages(plan())[static_cast<std::size_t>(step)];
    detail::check_start(plan(), stage, step);
    const Knot at = done ? Knot{0, 1, 0} : plan().stages[static_cast<std::size_t>(stage)].at;
    for (std::size_t b = 0; b < streams(); ++b) {
      with_normals(slot, b, step == 0 ? plan().traits.initial_scale : at.sigma,
                   step == 0 ? 0 : at.alpha, Traits::data(data));
      core_.place(slice(slot, b), step);
    }
  }
  // x = alpha data + sigma noise on a frame.
  void with_normals(std::size_t slot, std::size_t b, double sigma, double alpha,
                    const Scalar* data) {
    using Real = detail::Compute<Scalar>;
    const std::uint64_t stream = core_.streams()[slice(slot, b)];
    const Real s = static_cast<Real>(sigma), a = static_cast<Real>(alpha);
    Scalar* x = Traits::data(x_);
    core_.for_each_stretch(
        slice(slot, b), [&](std::size_t begin, std::size_t within, std::size_t count) {
          Real normals[detail::chunk_size];
          core_.initial_normals(stream, within, count, normals);
          for (std::size_t i = 0; i < count; ++i) {
            const Real fresh = s * normals[i];
            x[begin + i] = static_cast<Scalar>(
                alpha == 0 ? fresh : a * static_cast<Real>(data[begin + i]) + fresh);
          }
        });
  }

  // Everything moves up by a frame.
  void shift() {
    for (std::size_t b = 0; b < streams(); ++b)
      for (std::size_t slot = 0; slot + 1 < frames(); ++slot)
        core_.move_slice(slice(slot + 1, b), slice(slot, b), Traits::data(x_));
    ++front_;
    enter(frames() - 1);
    core_.settle(Traits::data(x_));
    aim();
  }
  void aim() {
    for (std::size_t i = 0; i < core_.slices(); ++i) core_.aim(i, due(front_ + i % frames()));
  }
  // Rounds of one step each, until the network has to be asked or a frame is finished.
  void go_on() {
    while (!ready() && !core_.moving()) {
      ++round_;
      aim();
    }
    core_.tell();
  }

  void require_tick() const {
    if (ready()) fail("a frame of the queue is finished: pop it before the network is asked again");
  }
  void require_fresh(const T& data, const char* what) const {
    if (ticks() > 0 || next_ > 0) fail(detail::text(what, " must come before the first tick"));
    if (Traits::shape(data) != shape_)
      fail(detail::text(what, " has the shape ", shape_text(Traits::shape(data)),
                        "; the window has ", shape_text(shape_)));
  }
  void check_output() const {
    const std::size_t given = core_.output_size() * core_.blocks().batch;
    const std::size_t found = blocks_of<T>(Traits::shape(output_), false).total();
    if (found != given)
      fail(detail::text("the network changed its output to ", found, " elements; it must keep the ",
                        given, " that it was given"));
  }

  FrameQueueOptions options_;
  ShapeOf<T> shape_;
  int dimension_;
  bool along_batch_;
  T output_;
  T x_;
  Core core_;
  T scaled_;
  std::uint64_t front_ = 0, next_ = 0;
  std::int64_t round_ = 0;
};

}  // namespace diffusion

#endif  // DIFFUSION_VIDEO_ROLLING_HPP
