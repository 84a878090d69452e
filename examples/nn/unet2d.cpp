#include "unet2d.hpp"

#include "blocks.hpp"
#include "time_embedding.hpp"

#include <unsupported/Eigen/CXX11/ThreadPool>

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace nn {

template <class Scalar>
class Unet2d<Scalar>::Implementation {
 public:
  Implementation(const Unet2dConfig& config, Parameters<Scalar> parameters)
      : config_(config),
        embedding_(parameters, config),
        conv_in_(parameters, "conv_in",
                 conv3x3(config.in_channels, config.block_out_channels.front())),
        norm_out_(parameters, "conv_norm_out", config.block_out_channels.front(),
                  config.norm_num_groups
                      ? config.norm_num_groups
                      : detail::skip_groups(config.block_out_channels.front() / 4),
                  config.norm_eps),
        conv_out_(parameters, "conv_out",
                  conv3x3(config.block_out_channels.front(), config.out_channels)) {
    make_down(parameters);
    if (config.mid_block) mid_.emplace(parameters, "mid_block", config);
    make_up(parameters);
    parameters.check_all_taken();
    set_threads(1);
  }

  const Unet2dConfig& config() const { return config_; }
  int threads() const { return static_cast<int>(workspaces_.size()); }

  void set_attention_hook(AttentionHook<Scalar> hook) { hook_ = std::move(hook); }

  std::vector<Scalar> class_vector(int label) const {
    if (config_.class_embedding != ClassEmbedding::table)
      fail("class_vector is for networks with a table of classes; this one has none");
    const auto row = embedding_.class_row(label);
    return {row.begin(), row.end()};
  }

  void set_threads(int threads) {
    constexpr int most = 1024;
    if (threads < 1 || threads > most)
      throw std::invalid_argument("Unet2d: threads is " + std::to_string(threads) +
                                  ", must be from 1 to " + std::to_string(most));
    pool_ = threads > 1 ? std::make_unique<Eigen::ThreadPool>(threads - 1) : nullptr;
    workspaces_.resize(static_cast<std::size_t>(threads));
  }

  void run(const Batch& x, std::span<const double> t, std::span<const int> labels,
           std::span<const Scalar> class_vectors, Batch& out) {
    check(x, t, labels, class_vectors);
    const Eigen::array<Index, 4> shape{x.dimension(0), config_.out_channels, x.dimension(2),
                                       x.dimension(3)};
    if (out.dimensions() != typename Batch::Dimensions(shape)) out.resize(shape);
    const auto sample = [&](Index i, Workspace<Scalar>& memory) {
      const auto n = static_cast<std::size_t>(i);
      Condition<Scalar> condition;
      if (!labels.empty()) condition.label = labels[n];
      if (!class_vectors.empty()) condition.vector = class_vectors.data() + i * embedding_.width();
      const Index in_size = config_.in_channels * shape[2] * shape[3];
      const Index out_size = config_.out_channels * shape[2] * shape[3];
      // Only read: a FeatureMap has no constant twin.
      auto* data = const_cast<Scalar*>(x.data()) + i * in_size;
      memory.probe = {hook_ ? &hook_ : nullptr, i, 0};
      run_sample({data, config_.in_channels, shape[2], shape[3]}, t.size() == 1 ? t[0] : t[n],
                 condition, memory,
                 {out.data() + i * out_size, config_.out_channels, shape[2], shape[3]});
    };
    for_each_sample(shape[0], sample);
  }

 private:
  void make_down(Parameters<Scalar>& parameters) {
    Index width = config_.block_out_channels.front();
    for (std::size_t i = 0; i < config_.levels(); ++i) {
      const Index in = std::exchange(width, config_.block_out_channels[i]);
      down_.emplace_back(parameters, "down_blocks." + std::to_string(i), config_,
                         typename DownBlock<Scalar>::Options{.kind = config_.down_block_types[i],
                                                             .in = in,
                                                             .out = width,
                                                             .last = i + 1 == config_.levels()});
    }
  }

  void make_up(Parameters<Scalar>& parameters) {
    const std::size_t last = config_.levels() - 1;
    Index width = config_.block_out_channels.back();
    for (std::size_t i = 0; i <= last; ++i) {
      const Index previous = std::exchange(width, config_.block_out_channels[last - i]);
      up_.emplace_back(parameters, "up_blocks." + std::to_string(i), config_,
                       typename UpBlock<Scalar>::Options{
                           .kind = config_.up_block_types[i],
                           .previous = previous,
                           .out = width,
                           .next = config_.block_out_channels[i == last ? 0 : last - i - 1],
                           .last = i == last});
    }
  }

  void check(const Batch& x, std::span<const double> t, std::span<const int> labels,
             std::span<const Scalar> class_vectors) const {
    const auto batch = static_cast<std::size_t>(x.dimension(0));
    if (x.dimension(1) != config_.in_channels)
      fail("x has " + std::to_string(x.dimension(1)) + " channels, the network takes " +
           std::to_string(config_.in_channels));
    check_extent(x.dimension(2), "height");
    check_extent(x.dimension(3), "width");
    if (t.size() != 1 && t.size() != batch)
      fail(std::to_string(t.size()) + " timesteps for a batch of " + std::to_string(batch) +
           ", must be 1 or one for each sample");
    for (const double one : t) embedding_.check_time(one);
    check_classes(batch, labels, class_vectors);
  }

  void check_classes(std::size_t batch, std::span<const int> labels,
                     std::span<const Scalar> class_vectors) const {
    const ClassEmbedding kind = config_.class_embedding;
    const bool takes_labels = kind == ClassEmbedding::table || kind == ClassEmbedding::timestep;
    if (!takes_labels && !labels.empty())
      fail(std::to_string(labels.size()) + " class labels given, the network takes none");
    const bool by_vectors = kind == ClassEmbedding::table && !class_vectors.empty();
    if (by_vectors && !labels.empty())
      fail("class labels and class vectors are given; it must be one of the two");
    if (takes_labels && !by_vectors && labels.size() != batch)
      fail(std::to_string(labels.size()) + " class labels for a batch of " + std::to_string(batch) +
           ", must be one for each sample");
    for (const int label : labels) embedding_.check_label(label);

    const bool takes_vectors = kind == ClassEmbedding::identity || by_vectors;
    const std::size_t wanted =
        takes_vectors ? batch * static_cast<std::size_t>(embedding_.width()) : 0;
    if (class_vectors.size() != wanted)
      fail("class vectors hold " + std::to_string(class_vectors.size()) +
           " numbers, the network takes " + std::to_string(wanted) +
           (takes_vectors ? ", batch times time_embedding_dim" : ""));
  }

  /// Follows one extent through the network: what is joined or added must be of one size.
  void check_extent(Index extent, const char* name) const {
    const auto refuse = [&](const std::string& why) {
      fail(std::string("x has ") + name + " " + std::to_string(extent) + ": " + why +
           "; multiples of " + std::to_string(Index{1} << (config_.levels() - 1)) + " fit");
    };
    std::vector<Index> kept;
    Index now = extent, picture = extent;
    for (const auto& block : down_) {
      if (now < 1) refuse("nothing is left of it at the lowest level");
      kept.push_back(now);
      now = block.smaller(now);
      if (!block.shrinks_picture()) continue;
      picture = resized(Resize::fir_down, picture);
      if (picture != now)
        refuse("the picture beside the skip blocks has " + std::to_string(picture) +
               " pixels where the features have " + std::to_string(now));
    }
    picture = 0;
    for (const auto& block : up_) {
      if (now != kept.back())
        refuse("going up gives " + std::to_string(now) + " pixels where " +
               std::to_string(kept.back()) + " were on the way down");
      kept.pop_back();
      if (block.is_skip()) {
        picture *= 2;
        if (picture != 0 && picture != now)
          refuse("the picture beside the skip blocks has " + std::to_string(picture) +
                 " pixels where the features have " + std::to_string(now));
        if (block.grows()) picture = now;
      }
      if (block.grows()) now *= 2;
    }
    if (picture != 0 && picture != extent)
      refuse("the picture beside the skip blocks ends with " + std::to_string(picture) + " pixels");
  }

  [[noreturn]] static void fail(const std::string& message) { detail::fail("Unet2d: " + message); }

  /// Calls sample(i, memory) for every i below `count`, on all threads.
  template <class Sample>
  void for_each_sample(Index count, const Sample& sample) {
    std::atomic<Index> next{0};
    std::exception_ptr error;
    std::mutex error_mutex;
    const auto work = [&](std::size_t worker) {
      try {
        for (Index i = next++; i < count; i = next++) sample(i, workspaces_[worker]);
      } catch (...) {
        const std::lock_guard lock(error_mutex);
        error = std::current_exception();
      }
    };
    const auto helpers = static_cast<std::size_t>(
        std::max<Index>(0, std::min<Index>(count, static_cast<Index>(workspaces_.size())) - 1));
    Eigen::Barrier barrier(static_cast<unsigned>(helpers));
    for (std::size_t worker = 1; worker <= helpers; ++worker)
      pool_->Schedule([&work, &barrier, worker] {
        work(worker);
        barrier.Notify();
      });
    work(0);
    barrier.Wait();
    if (error) std::rethrow_exception(error);
  }

  void run_sample(const FeatureMap<Scalar>& x, double t, const Condition<Scalar>& condition,
                  Workspace<Scalar>& memory, const FeatureMap<Scalar>& out) const {
    memory.clear();
    Scalar* time = memory.kept.take(embedding_.width());
    embedding_(memory.scratch, t, condition, time);
    affine_activation<Scalar>(config_.act_fn, time, embedding_.width(), 1, 0, time);

    DownState<Scalar> down{{}, centered(memory.kept, x)};
    down.kept.push_back(conv_in_.result(memory.kept, x));
    conv_in_(memory.scratch, down.picture, down.kept.back());
    for (const auto& block : down_) block(memory, down, time);

    UpState<Scalar> up{down.kept.back(), 0, {}};
    if (mid_) (*mid_)(memory, up, time);
    for (const auto& block : up_) block(memory, down.kept, up, time);

    const auto normed = memory.scratch.map(up.features.channels, out.height, out.width);
    norm_out_(up.features, Activation::silu, normed);
    conv_out_(memory.scratch, normed, out, nullptr, up.picture.data);
    if (config_.time_embedding_type == TimeEmbedding::fourier)
      ArrayMap<Scalar>(out.data, out.size()) /= static_cast<Scalar>(t);
  }

  FeatureMap<Scalar> centered(Arena<Scalar>& arena, const FeatureMap<Scalar>& x) const {
    const auto result = arena.map(x.channels, x.height, x.width);
    const ConstArrayMap<Scalar> from(x.data, x.size());
    ArrayMap<Scalar> to(result.data, x.size());
    if (config_.center_input_sample)
      to = Scalar(2) * from - Scalar(1);
    else
      to = from;
    return result;
  }

  Unet2dConfig config_;
  ConditionEmbedding<Scalar> embedding_;
  Conv2d<Scalar> conv_in_;
  std::vector<DownBlock<Scalar>> down_;
  std::optional<MidBlock<Scalar>> mid_;
  std::vector<UpBlock<Scalar>> up_;
  GroupNorm<Scalar> norm_out_;
  Conv2d<Scalar> conv_out_;
  AttentionHook<Scalar> hook_;
  std::unique_ptr<Eigen::ThreadPool> pool_;
  std::vector<Workspace<Scalar>> workspaces_;
};

template <class Scalar>
Unet2d<Scalar> Unet2d<Scalar>::load(const std::filesystem::path& folder) {
  const auto config = Unet2dConfig::read(folder / "config.json");
  return {config, SafeTensors::read(folder / "diffusion_pytorch_model.safetensors")};
}

template <class Scalar>
Unet2d<Scalar>::Unet2d(const Unet2dConfig& config, const SafeTensors& weights)
    : implementation_(std::make_unique<Implementation>(config, Parameters<Scalar>(weights))) {}

template <class Scalar>
Unet2d<Scalar>::Unet2d(Unet2d&&) noexcept = default;
template <class Scalar>
Unet2d<Scalar>& Unet2d<Scalar>::operator=(Unet2d&&) noexcept = default;
template <class Scalar>
Unet2d<Scalar>::~Unet2d() = default;

template <class Scalar>
const Unet2dConfig& Unet2d<Scalar>::config() const {
  return implementation_->config();
}

template <class Scalar>
void Unet2d<Scalar>::set_threads(int threads) {
  implementation_->set_threads(threads);
}

template <class Scalar>
int Unet2d<Scalar>::threads() const {
  return implementation_->threads();
}

template <class Scalar>
void Unet2d<Scalar>::operator()(const Batch& x, double t, std::span<const int> labels, Batch& out) {
  implementation_->run(x, std::span(&t, 1), labels, {}, out);
}

template <class Scalar>
void Unet2d<Scalar>::operator()(const Batch& x, std::span<const double> t,
                                std::span<const int> labels, Batch& out) {
  implementation_->run(x, t, labels, {}, out);
}

template <class Scalar>
void Unet2d<Scalar>::call_with_class_vectors(const Batch& x, double t,
                                             std::span<const Scalar> class_vectors, Batch& out) {
  implementation_->run(x, std::span(&t, 1), {}, class_vectors, out);
}

template <class Scalar>
std::vector<Scalar> Unet2d<Scalar>::class_vector(int label) const {
  return implementation_->class_vector(label);
}

template <class Scalar>
void Unet2d<Scalar>::set_attention_hook(AttentionHook<Scalar> hook) {
  implementation_->set_attention_hook(std::move(hook));
}

template class Unet2d<float>;
template class Unet2d<double>;

}  // namespace nn
