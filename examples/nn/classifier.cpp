#include "classifier.hpp"

#include "sample_threads.hpp"
#include "time_embedding.hpp"

#include <cmath>
#include <limits>
#include <string>
#include <utility>

namespace nn {

namespace {

[[noreturn]] void refuse(const std::string& message) {
  detail::fail("PictureClassifier: " + message);
}

const nlohmann::json& field(const detail::ConfigReader& reader, const char* name) {
  const auto* value = reader.find(name);
  if (value == nullptr) detail::fail(std::string("config.json: ") + name + " is missing");
  return *value;
}

std::int64_t integer(const detail::ConfigReader& reader, const char* name, std::int64_t high) {
  return detail::ConfigReader::integer(name, field(reader, name), 1, high);
}

void read_time(const detail::ConfigReader& reader, ClassifierConfig& config) {
  constexpr std::int64_t widest = 1 << 20;
  const auto& channels = field(reader, "time_channels");
  const auto& width = field(reader, "time_width");
  if (channels.is_null() != width.is_null())
    detail::ConfigReader::refuse("time_width", width, "null if and only if time_channels is");
  if (channels.is_null()) return;
  config.time_channels = detail::ConfigReader::integer("time_channels", channels, 2, widest);
  config.time_width = detail::ConfigReader::integer("time_width", width, 1, widest);
  if (*config.time_channels % 2 != 0)
    detail::ConfigReader::refuse("time_channels", channels, "an even number");
}

void read_blocks(const detail::ConfigReader& reader, ClassifierConfig& config) {
  constexpr std::int64_t widest = 1 << 20;
  field(reader, "block_channels");
  for (const auto& entry : reader.list("block_channels", 16))
    config.block_channels.push_back(
        detail::ConfigReader::integer("block_channels", entry, 1, widest));
  if (config.last_side() < 1)
    detail::fail("config.json: sample_size is " + std::to_string(config.sample_size) +
                 ", must be at least " + std::to_string(1 << config.block_channels.size()) +
                 " for " + std::to_string(config.block_channels.size()) + " poolings");
}

/// What the time projection of Unet2d is told: sinusoids, cosines first.
Unet2dConfig projection_config(const ClassifierConfig& config) {
  Unet2dConfig result;
  result.block_out_channels = {*config.time_channels};
  return result;
}

template <class Scalar>
struct Memory {
  Arena<Scalar> kept, turn[2], scratch;

  void clear() {
    for (auto* arena : {&kept, &turn[0], &turn[1], &scratch}) arena->clear();
  }
};

/// What the way back reads of the way forth through one block.
template <class Scalar>
struct Passed {
  FeatureMap<Scalar> before_1, before_2, after_2;  // the activations, and what is pooled
};

template <class Scalar>
class Block {
 public:
  Block(Parameters<Scalar>& parameters, const std::string& name, const ClassifierConfig& config,
        Index in, Index out)
      : activation_(config.activation),
        pooling_(config.pooling),
        first_(parameters, name + ".conv_1", in, out),
        second_(parameters, name + ".conv_2", out, out) {
    if (config.hears_time()) time_.emplace(parameters, name + ".time", *config.time_width, out);
  }

  /// The pooled features; they and `passed` live in memory.kept.
  FeatureMap<Scalar> forward(Memory<Scalar>& memory, const FeatureMap<Scalar>& x,
                             const Scalar* time, Passed<Scalar>& passed) const {
    const auto map = [&] { return memory.kept.map(first_.out(), x.height, x.width); };
    const typename Arena<Scalar>::Scope scope(memory.scratch);
    passed = {map(), map(), map()};
    first_.forward(memory.scratch, x, passed.before_1, bias(memory.scratch, time));
    const auto between = memory.scratch.map(first_.out(), x.height, x.width);
    activate(passed.before_1, between);
    second_.forward(memory.scratch, between, passed.before_2);
    activate(passed.before_2, passed.after_2);
    const auto pooled = memory.kept.map(first_.out(), x.height / 2, x.width / 2);
    pool(pooling_, passed.after_2, pooled);
    return pooled;
  }

  /// The gradient in the block's input, in memory.turn[turn]; that in its output may be in the
  /// other of the two.
  FeatureMap<Scalar> backward(Memory<Scalar>& memory, const FeatureMap<Scalar>& grad_pooled,
                              const Passed<Scalar>& passed, std::size_t turn) const {
    const typename Arena<Scalar>::Scope scope(memory.scratch);
    const Index height = passed.after_2.height, width = passed.after_2.width;
    const auto later = memory.scratch.map(first_.out(), height, width);
    pool_backward(pooling_, passed.after_2, grad_pooled, later);
    activation_backward(activation_, passed.before_2.data, later.size(), later.data);
    const auto earlier = memory.scratch.map(first_.out(), height, width);
    second_.backward(memory.scratch, later, earlier);
    activation_backward(activation_, passed.before_1.data, earlier.size(), earlier.data);
    memory.turn[turn].clear();
    const auto result = memory.turn[turn].map(first_.in(), height, width);
    first_.backward(memory.scratch, earlier, result);
    return result;
  }

 private:
  const Scalar* bias(Arena<Scalar>& scratch, const Scalar* time) const {
    if (!time_) return nullptr;
    Scalar* sum = scratch.take(first_.out());
    (*time_)(time, sum);
    ArrayMap<Scalar>(sum, first_.out()) +=
        ConstArrayMap<Scalar>(first_.bias().data(), first_.out());
    return sum;
  }
  void activate(const FeatureMap<Scalar>& x, const FeatureMap<Scalar>& y) const {
    affine_activation<Scalar>(activation_, x.data, x.size(), 1, 0, y.data);
  }

  Activation activation_;
  Pooling pooling_;
  ReversibleConv<Scalar> first_, second_;
  std::optional<Linear<Scalar>> time_;
};

}  // namespace

ClassifierConfig ClassifierConfig::read(const std::filesystem::path& path) {
  const auto bytes = detail::read_file(path);
  return parse({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
}

ClassifierConfig ClassifierConfig::parse(std::string_view text) {
  constexpr std::int64_t widest = 1 << 20;
  const detail::ConfigReader reader(text);
  if (const auto& name = field(reader, "_class_name"); name != "PictureClassifier")
    detail::ConfigReader::refuse("_class_name", name, "\"PictureClassifier\"");
  ClassifierConfig config;
  config.in_channels = integer(reader, "in_channels", widest);
  config.sample_size = integer(reader, "sample_size", widest);
  config.features = integer(reader, "features", widest);
  config.classes = integer(reader, "classes", widest);
  config.activation = detail::ConfigReader::meaning<Activation>(
      "activation", field(reader, "activation"),
      {{"relu", Activation::relu}, {"silu", Activation::silu}});
  config.pooling = detail::ConfigReader::meaning<Pooling>(
      "pooling", field(reader, "pooling"), {{"max", Pooling::max}, {"average", Pooling::average}});
  read_blocks(reader, config);
  read_time(reader, config);
  return config;
}

template <class Scalar>
class PictureClassifier<Scalar>::Implementation {
 public:
  Implementation(const ClassifierConfig& config, Parameters<Scalar> parameters) : config_(config) {
    if (config.hears_time()) {
      projection_.emplace(parameters, "time_embedding", projection_config(config));
      embedding_.emplace(parameters, "time_embedding", *config.time_channels, *config.time_width);
    }
    Index width = config.in_channels;
    for (const Index channels : config.block_channels)
      blocks_.emplace_back(parameters, "blocks." + std::to_string(blocks_.size()), config,
                           std::exchange(width, channels), channels);
    const Index pixels = config.last_side() * config.last_side();
    hidden_.emplace(parameters, "hidden", width * pixels, config.features);
    output_.emplace(parameters, "output", config.features, config.classes);
    parameters.check_all_taken();
  }

  const ClassifierConfig& config() const { return config_; }
  SampleThreads<Memory<Scalar>>& threads() { return threads_; }

  void scores(const Batch& x, std::span<const double> times, Scores& out) {
    check(x, times);
    out.resize(x.dimension(0), config_.classes);
    threads_.for_each(x.dimension(0), [&](Index i, Memory<Scalar>& memory) {
      Way way;
      forward(memory, picture(x, i), time_of(times, i), way);
      std::copy_n(way.scores, config_.classes, out.data() + i * config_.classes);
    });
  }

  void gradient(const Batch& x, std::span<const double> times, std::span<const int> classes,
                Batch& out) {
    check(x, times);
    check_classes(x, classes);
    if (out.dimensions() != x.dimensions()) out.resize(x.dimensions());
    threads_.for_each(x.dimension(0), [&](Index i, Memory<Scalar>& memory) {
      Way way;
      forward(memory, picture(x, i), time_of(times, i), way);
      // d log softmax(scores)[k] / d scores = (1 at k) - softmax
      ArrayMap<Scalar> grad(way.scores, config_.classes);
      log_softmax(std::span(way.scores, static_cast<std::size_t>(config_.classes)));
      grad = -grad.exp();
      grad[classes[static_cast<std::size_t>(i)]] += Scalar(1);
      const auto result = backward(memory, way);
      std::copy_n(result.data, result.size(), out.data() + i * result.size());
    });
  }

 private:
  /// One picture's way through the network.
  struct Way {
    std::vector<Passed<Scalar>> passed;
    FeatureMap<Scalar> last;  // what the hidden layer is given
    Scalar* before_hidden = nullptr;
    Scalar* scores = nullptr;
  };

  void check(const Batch& x, std::span<const double> times) const {
    if (x.dimension(1) != config_.in_channels)
      refuse("x has " + std::to_string(x.dimension(1)) + " channels, the network takes " +
             std::to_string(config_.in_channels));
    for (const int axis : {2, 3})
      if (x.dimension(axis) != config_.sample_size)
        refuse(std::string("x has ") + (axis == 2 ? "height " : "width ") +
               std::to_string(x.dimension(axis)) + ", the network takes " +
               std::to_string(config_.sample_size));
    const auto batch = static_cast<std::size_t>(x.dimension(0));
    if (!config_.hears_time() && !times.empty())
      refuse(std::to_string(times.size()) + " timesteps given, the network hears none");
    if (config_.hears_time() && times.size() != 1 && times.size() != batch)
      refuse(std::to_string(times.size()) + " timesteps for a batch of " + std::to_string(batch) +
             ", must be 1 or one for each sample");
    for (const double t : times) projection_->check(t);
  }

  void check_classes(const Batch& x, std::span<const int> classes) const {
    if (classes.size() != static_cast<std::size_t>(x.dimension(0)))
      refuse(std::to_string(classes.size()) + " classes for a batch of " +
             std::to_string(x.dimension(0)) + ", must be one for each sample");
    for (const int one : classes)
      if (one < 0 || one >= config_.classes)
        refuse("class is " + std::to_string(one) + ", must be from 0 to " +
               std::to_string(config_.classes - 1));
  }

  FeatureMap<Scalar> picture(const Batch& x, Index i) const {
    const Index side = config_.sample_size;
    // Only read: a FeatureMap has no constant twin.
    auto* data = const_cast<Scalar*>(x.data()) + i * config_.in_channels * side * side;
    return {data, config_.in_channels, side, side};
  }

  static double time_of(std::span<const double> times, Index i) {
    if (times.empty()) return 0.0;
    return times.size() == 1 ? times[0] : times[static_cast<std::size_t>(i)];
  }

  /// The time embedding, or null where the network hears no time.
  const Scalar* embed(Memory<Scalar>& memory, double t) const {
    if (!projection_) return nullptr;
    Scalar* waves = memory.kept.take(projection_->out());
    Scalar* time = memory.kept.take(*config_.time_width);
    (*projection_)(t, waves);
    (*embedding_)(memory.scratch, waves, time);
    return time;
  }

  void forward(Memory<Scalar>& memory, FeatureMap<Scalar> x, double t, Way& way) const {
    memory.clear();
    const Scalar* time = embed(memory, t);
    way.passed.resize(blocks_.size());
    for (std::size_t i = 0; i < blocks_.size(); ++i)
      x = blocks_[i].forward(memory, x, time, way.passed[i]);
    way.last = x;
    way.before_hidden = memory.kept.take(config_.features);
    way.scores = memory.kept.take(config_.classes);
    Scalar* features = memory.scratch.take(config_.features);
    hidden_->forward(x.data, way.before_hidden);
    affine_activation<Scalar>(config_.activation, way.before_hidden, config_.features, 1, 0,
                              features);
    output_->forward(features, way.scores);
  }

  /// The gradient in the picture, where way.scores has become the gradient in the scores.
  FeatureMap<Scalar> backward(Memory<Scalar>& memory, const Way& way) const {
    Scalar* features = memory.scratch.take(config_.features);
    output_->backward(way.scores, features);
    activation_backward(config_.activation, way.before_hidden, config_.features, features);
    std::size_t turn = blocks_.size() % 2;
    auto grad = memory.turn[turn].map(way.last.channels, way.last.height, way.last.width);
    hidden_->backward(features, grad.data);
    for (std::size_t i = blocks_.size(); i-- > 0;) {
      turn = 1 - turn;
      grad = blocks_[i].backward(memory, grad, way.passed[i], turn);
    }
    return grad;
  }

  ClassifierConfig config_;
  std::optional<TimeProjection<Scalar>> projection_;
  std::optional<EmbeddingMlp<Scalar>> embedding_;
  std::vector<Block<Scalar>> blocks_;
  std::optional<ReversibleLinear<Scalar>> hidden_, output_;
  SampleThreads<Memory<Scalar>> threads_;
};

template <class Scalar>
PictureClassifier<Scalar> PictureClassifier<Scalar>::load(const std::filesystem::path& folder) {
  const auto config = ClassifierConfig::read(folder / "config.json");
  return {config, SafeTensors::read(folder / "model.safetensors")};
}

template <class Scalar>
PictureClassifier<Scalar>::PictureClassifier(const ClassifierConfig& config,
                                             const SafeTensors& weights)
    : implementation_(std::make_unique<Implementation>(config, Parameters<Scalar>(weights))) {}

template <class Scalar>
PictureClassifier<Scalar>::PictureClassifier(PictureClassifier&&) noexcept = default;
template <class Scalar>
PictureClassifier<Scalar>& PictureClassifier<Scalar>::operator=(PictureClassifier&&) noexcept =
    default;
template <class Scalar>
PictureClassifier<Scalar>::~PictureClassifier() = default;

template <class Scalar>
const ClassifierConfig& PictureClassifier<Scalar>::config() const {
  return implementation_->config();
}

template <class Scalar>
void PictureClassifier<Scalar>::set_threads(int threads) {
  implementation_->threads().set_count(threads);
}

template <class Scalar>
int PictureClassifier<Scalar>::threads() const {
  return implementation_->threads().count();
}

template <class Scalar>
void PictureClassifier<Scalar>::operator()(const Batch& x, std::span<const double> times,
                                           Scores& out) {
  implementation_->scores(x, times, out);
}

template <class Scalar>
void PictureClassifier<Scalar>::gradient(const Batch& x, std::span<const double> times,
                                         std::span<const int> classes, Batch& out) {
  implementation_->gradient(x, times, classes, out);
}

template class PictureClassifier<float>;
template class PictureClassifier<double>;

}  // namespace nn
