// The classifiers of the examples: layers and their reverse mode against their definitions, the
// whole against torch (data written by python/make_classifier_reference.py) and against
// differences, and files that are not what they should be.

#include "catch.hpp"
#include "support.hpp"

#include <nn/classifier.hpp>
#include <nn/reversible.hpp>
#include <nn/sample_threads.hpp>
#include <support/judge.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace {

using Eigen::Index;
using nlohmann::json;
using Bytes = std::vector<std::byte>;

const std::filesystem::path data_folder = std::filesystem::path(DIFFUSION_TEST_DATA) / "classifier";
const std::filesystem::path model_folder =
    std::filesystem::path(DIFFUSION_MODELS_DIR) / "digits-and-clothing-classifier";

template <class Scalar>
using Batch = Eigen::Tensor<Scalar, 4, Eigen::RowMajor>;

std::filesystem::path folder_of(const std::string& name) {
  return (name.starts_with("small") ? data_folder : model_folder) / name;
}

json read_json(const std::filesystem::path& path) {
  std::ifstream file(path);
  return json::parse(file);
}

const json& reference() {
  static const json read = read_json(data_folder / "reference.json");
  return read;
}

/// The pictures of the reference script.
template <class Scalar>
Batch<Scalar> pictures(const nn::ClassifierConfig& config, Index count = 3) {
  Batch<Scalar> x(count, config.in_channels, config.sample_size, config.sample_size);
  for (Index i = 0; i < x.size(); ++i) {
    const auto n = static_cast<double>(i);
    x.data()[i] = static_cast<Scalar>(std::sin(0.37 * n + 0.001 * n * n) * std::cos(0.11 * n));
  }
  return x;
}

std::string error_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const std::exception& error) {
    return error.what();
  }
  return "no error";
}

// ---- layers -------------------------------------------------------------------------------------

nn::SafeTensors one_layer(const std::vector<std::int64_t>& shape, const std::vector<float>& weight,
                          const std::vector<float>& bias) {
  const std::size_t middle = weight.size() * sizeof(float);
  const std::size_t end = middle + bias.size() * sizeof(float);
  const json header{
      {"layer.weight", {{"dtype", "F32"}, {"shape", shape}, {"data_offsets", {0, middle}}}},
      {"layer.bias", {{"dtype", "F32"}, {"shape", {shape[0]}}, {"data_offsets", {middle, end}}}}};
  const std::string text = header.dump();
  const std::uint64_t length = text.size();
  Bytes bytes(sizeof(length) + text.size() + end);
  std::memcpy(bytes.data(), &length, sizeof(length));
  std::memcpy(bytes.data() + sizeof(length), text.data(), text.size());
  std::memcpy(bytes.data() + sizeof(length) + text.size(), weight.data(), middle);
  std::memcpy(bytes.data() + sizeof(length) + text.size() + middle, bias.data(), end - middle);
  return nn::SafeTensors::parse(bytes);
}

std::vector<float> floats(support::Random& random, std::size_t count) {
  std::vector<float> values(count);
  for (float& value : values) value = static_cast<float>(random.uniform(-1, 1));
  return values;
}

nn::FeatureMap<double> random_map(nn::Arena<double>& arena, support::Random& random, Index channels,
                                  Index height, Index width) {
  const auto map = arena.map(channels, height, width);
  for (Index i = 0; i < map.size(); ++i) map.data[i] = random.uniform(-1, 1);
  return map;
}

double dot(const nn::FeatureMap<double>& a, const nn::FeatureMap<double>& b) {
  double sum = 0;
  for (Index i = 0; i < a.size(); ++i) sum += a.data[i] * b.data[i];
  return sum;
}

/// One number of a 3x3 convolution, from the definition.
double convolved(const std::vector<float>& weight, const nn::FeatureMap<double>& x, Index channel,
                 Index row, Index column) {
  double sum = 0;
  for (Index c = 0; c < x.channels; ++c)
    for (Index i = 0; i < 3; ++i)
      for (Index j = 0; j < 3; ++j) {
        const Index y = row + i - 1, z = column + j - 1;
        if (y < 0 || z < 0 || y >= x.height || z >= x.width) continue;
        const auto at = static_cast<std::size_t>(((channel * x.channels + c) * 3 + i) * 3 + j);
        sum += static_cast<double>(weight[at]) * x.channel(c)[y * x.width + z];
      }
  return sum;
}

}  // namespace

TEST_CASE("a convolution with reverse mode is its definition, and backward its transpose") {
  support::Random random(1);
  for (const auto& [in, out, height, width] :
       {std::array<Index, 4>{1, 3, 5, 7}, {4, 9, 6, 6}, {5, 1, 1, 2}, {2, 17, 14, 14}}) {
    const auto weight = floats(random, static_cast<std::size_t>(in * out * 9));
    const auto bias = floats(random, static_cast<std::size_t>(out));
    const nn::SafeTensors file = one_layer({out, in, 3, 3}, weight, bias);
    nn::Parameters<double> parameters(file);
    const nn::ReversibleConv<double> layer(parameters, "layer", in, out);
    nn::Arena<double> arena, scratch;
    const auto x = random_map(arena, random, in, height, width);
    const auto v = random_map(arena, random, out, height, width);
    const auto y = arena.map(out, height, width);
    const auto back = arena.map(in, height, width);
    layer.forward(scratch, x, y);
    layer.backward(scratch, v, back);
    double error = 0, constant = 0;
    for (Index c = 0; c < out; ++c)
      for (Index i = 0; i < y.pixels(); ++i) {
        const double b = static_cast<double>(bias[static_cast<std::size_t>(c)]);
        constant += b * v.channel(c)[i];
        error = std::max(
            error, std::abs(y.channel(c)[i] - b - convolved(weight, x, c, i / width, i % width)));
      }
    CAPTURE(in, out, height, width);
    CHECK(error < 1e-13 * static_cast<double>(9 * in));
    // <v, W x> = <W^T v, x>
    CHECK(dot(v, y) - constant == Approx(dot(back, x)).margin(1e-12));
  }
}

TEST_CASE("a linear layer's backward is its transpose") {
  support::Random random(2);
  const auto weight = floats(random, 35), bias = floats(random, 5);
  const nn::SafeTensors file = one_layer({5, 7}, weight, bias);
  nn::Parameters<double> parameters(file);
  const nn::ReversibleLinear<double> layer(parameters, "layer", 7, 5);
  const auto x = random.normals(7), v = random.normals(5);
  std::vector<double> y(5), back(7);
  layer.forward(x.data(), y.data());
  layer.backward(v.data(), back.data());
  for (std::size_t i = 0; i < 5; ++i) {
    double sum = static_cast<double>(bias[i]);
    for (std::size_t j = 0; j < 7; ++j) sum += static_cast<double>(weight[7 * i + j]) * x[j];
    CHECK(y[i] == Approx(sum).epsilon(1e-13));
  }
  for (std::size_t j = 0; j < 7; ++j) {
    double sum = 0;
    for (std::size_t i = 0; i < 5; ++i) sum += static_cast<double>(weight[7 * i + j]) * v[i];
    CHECK(back[j] == Approx(sum).epsilon(1e-13));
  }
}

TEST_CASE("an activation's backward is its derivative") {
  const double h = 1e-5;
  for (const nn::Activation act : {nn::Activation::relu, nn::Activation::silu})
    for (const double x : {-30.0, -2.5, -0.3, 0.4, 1.7, 30.0}) {
      double up = x + h, down = x - h, gradient = 3;
      nn::affine_activation<double>(act, &up, 1, 1, 0, &up);
      nn::affine_activation<double>(act, &down, 1, 1, 0, &down);
      nn::activation_backward<double>(act, &x, 1, &gradient);
      CAPTURE(x);
      CHECK(gradient == Approx(3 * (up - down) / (2 * h)).margin(1e-8));
    }
  double kink = 0, gradient = 3;
  nn::activation_backward<double>(nn::Activation::relu, &kink, 1, &gradient);
  CHECK(gradient == 0);  // as torch has it
}

TEST_CASE("pooling takes the largest or the mean, and backward gives it back") {
  nn::Arena<double> arena;
  const auto x = arena.map(1, 3, 5), v = arena.map(1, 1, 2), y = arena.map(1, 1, 2);
  const auto back = arena.map(1, 3, 5);
  const double values[15] = {1, 2, 7, 7, 100, 4, 3, 7, 0, 100, 100, 100, 100, 100, 100};
  std::copy(values, values + 15, x.data);
  v.data[0] = 8;
  v.data[1] = 4;
  nn::pool(nn::Pooling::max, x, y);
  CHECK(std::vector<double>(y.data, y.data + 2) == std::vector<double>{4, 7});
  nn::pool_backward(nn::Pooling::max, x, v, back);  // of equal ones the first
  CHECK(std::vector<double>(back.data, back.data + 15) ==
        std::vector<double>{0, 0, 4, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0});
  nn::pool(nn::Pooling::average, x, y);
  CHECK(std::vector<double>(y.data, y.data + 2) == std::vector<double>{2.5, 5.25});
  nn::pool_backward(nn::Pooling::average, x, v, back);
  CHECK(std::vector<double>(back.data, back.data + 15) ==
        std::vector<double>{2, 2, 1, 1, 0, 2, 2, 1, 1, 0, 0, 0, 0, 0, 0});
}

// ---- the whole ----------------------------------------------------------------------------------

namespace {

template <class Scalar>
void check_against_torch(const std::string& name, double tolerance) {
  auto network = nn::PictureClassifier<Scalar>::load(folder_of(name));
  const json& wanted = reference().at(name);
  const auto times = wanted.at("t").get<std::vector<double>>();
  const auto classes = wanted.at("classes").get<std::vector<int>>();
  const auto stride = wanted.at("stride").get<Index>();
  const auto x = pictures<Scalar>(network.config());
  typename nn::PictureClassifier<Scalar>::Scores scores;
  Batch<Scalar> gradient;
  network(x, times, scores);
  network.gradient(x, times, classes, gradient);
  REQUIRE(scores.dimension(1) == static_cast<Index>(wanted.at("scores")[0].size()));
  double score_error = 0, gradient_error = 0, largest_score = 0, largest_gradient = 0;
  const Index size = gradient.size() / 3;
  for (Index i = 0; i < 3; ++i) {
    const auto n = static_cast<std::size_t>(i);
    for (Index k = 0; k < scores.dimension(1); ++k) {
      const double should = wanted.at("scores")[n][static_cast<std::size_t>(k)];
      largest_score = std::max(largest_score, std::abs(should));
      score_error = std::max(score_error, std::abs(static_cast<double>(scores(i, k)) - should));
    }
    for (Index k = 0; k * stride < size; ++k) {
      const double should = wanted.at("gradient")[n][static_cast<std::size_t>(k)];
      const auto is = static_cast<double>(gradient.data()[i * size + k * stride]);
      largest_gradient = std::max(largest_gradient, std::abs(should));
      gradient_error = std::max(gradient_error, std::abs(is - should));
    }
  }
  CAPTURE(name, score_error, gradient_error, largest_score, largest_gradient);
  CHECK(largest_gradient > 0);
  CHECK(score_error < tolerance * largest_score);
  CHECK(gradient_error < tolerance * largest_gradient);
}

}  // namespace

TEST_CASE("scores and gradient equal torch's") {
  check_against_torch<double>("small-judge", 1e-9);  // reference.json has ten digits
  check_against_torch<double>("judge", 1e-9);
  // The phases of the timestep are float32's: at t = 999 an ulp of a frequency is 6e-5.
  check_against_torch<double>("small-guide", 1e-4);
  check_against_torch<double>("guide", 1e-4);
  check_against_torch<float>("small-judge", 2e-5);
  check_against_torch<float>("judge", 2e-5);
  check_against_torch<float>("small-guide", 1e-4);
  check_against_torch<float>("guide", 1e-4);
}

TEST_CASE("the gradient is the slope of log p(class | x)") {
  for (const char* name : {"small-judge", "small-guide", "judge", "guide"}) {
    auto network = nn::PictureClassifier<double>::load(folder_of(name));
    // relu and max have kinks, which a large step would cross.
    const double h = network.config().activation == nn::Activation::relu ? 1e-8 : 1e-5;
    const std::vector<double> times(network.config().hears_time() ? 1 : 0, 321.0);
    const int classes = static_cast<int>(network.config().classes);
    const auto log_probability = [&](const Batch<double>& x, int k) {
      nn::PictureClassifier<double>::Scores scores;
      network(x, times, scores);
      std::span<double> values(scores.data(), static_cast<std::size_t>(classes));
      nn::log_softmax(values);
      return values[static_cast<std::size_t>(k)];
    };
    const auto x = pictures<double>(network.config(), 1);
    support::Random random(3);
    for (int trial = 0; trial < 5; ++trial) {
      const int k = random.integer(0, classes - 1);
      Batch<double> gradient, direction(x.dimensions());
      for (Index i = 0; i < x.size(); ++i) direction.data()[i] = random.normal();
      network.gradient(x, times, std::span(&k, 1), gradient);
      const Batch<double> up = x + direction * h, down = x - direction * h;
      const Eigen::Tensor<double, 0, Eigen::RowMajor> slope = (gradient * direction).sum();
      CAPTURE(name, k);
      CHECK((log_probability(up, k) - log_probability(down, k)) / (2 * h) ==
            Approx(slope(0)).epsilon(1e-5).margin(1e-5));
    }
  }
}

TEST_CASE("a picture's answer depends neither on the batch nor on the threads") {
  for (const char* name : {"judge", "guide"}) {
    auto network = nn::PictureClassifier<float>::load(folder_of(name));
    const bool hears = network.config().hears_time();
    const auto x = pictures<float>(network.config(), 5);
    const std::vector<double> times =
        hears ? std::vector<double>{0, 10, 200, 999, 500} : std::vector<double>{};
    const std::vector<int> classes{3, 19, 0, 7, 11};
    Batch<float> one, three;
    network.gradient(x, times, classes, one);
    network.set_threads(3);
    CHECK(network.threads() == 3);
    network.gradient(x, times, classes, three);
    CHECK(std::equal(one.data(), one.data() + one.size(), three.data()));
    Batch<float> last =
        x.slice(Eigen::array<Index, 4>{4, 0, 0, 0}, Eigen::array<Index, 4>{1, 1, 28, 28});
    Batch<float> alone;
    network.gradient(last, hears ? std::span(&times[4], 1) : std::span<const double>(),
                     std::span(&classes[4], 1), alone);
    CHECK(std::equal(alone.data(), alone.data() + 784, one.data() + 4 * 784));
    auto moved = std::move(network);
    moved.gradient(x, times, classes, three);
    CHECK(std::equal(one.data(), one.data() + one.size(), three.data()));
    const Batch<float> none(0, 1, 28, 28);
    nn::PictureClassifier<float>::Scores scores;
    moved(none, hears ? std::span(&times[0], 1) : std::span<const double>(), scores);
    CHECK(scores.dimension(0) == 0);
  }
}

TEST_CASE("the probabilities of log_softmax sum to 1, also far from 0") {
  std::vector<double> scores{1000, 999, -1000};
  nn::log_softmax(std::span(scores));
  CHECK(scores[0] == Approx(-std::log1p(std::exp(-1.0))).epsilon(1e-12));
  CHECK(scores[1] == Approx(-1 - std::log1p(std::exp(-1.0))).epsilon(1e-12));
  CHECK(scores[2] == Approx(-2000.3132616875));
}

// ---- the judge ----------------------------------------------------------------------------------

TEST_CASE("the judge counts what it recognises") {
  examples::Judge judge(model_folder);
  CHECK(judge.class_count() == 20);
  examples::Judge::Pictures x = pictures<float>({}, 4);
  const auto probabilities = judge.probabilities(x);
  const std::vector<int> classes = judge.classes(x);
  REQUIRE(classes.size() == 4);
  for (Index i = 0; i < 4; ++i) {
    double sum = 0, largest = 0;
    for (Index k = 0; k < 20; ++k) {
      sum += static_cast<double>(probabilities(i, k));
      largest = std::max(largest, static_cast<double>(probabilities(i, k)));
    }
    CHECK(sum == Approx(1).epsilon(1e-5));
    CHECK(static_cast<double>(probabilities(i, classes[static_cast<std::size_t>(i)])) == largest);
  }
  CHECK(judge.recognised(x, classes) == 1);
  std::vector<int> wrong = classes;
  wrong[2] = (wrong[2] + 1) % 20;
  CHECK(judge.recognised(x, wrong) == 0.75);
  CHECK(error_of([&] {
          judge.recognised(x, {1, 2, 3});
        }) == "3 labels for 4 pictures, must be one for each and at least one");
}

// ---- what is refused ----------------------------------------------------------------------------

TEST_CASE("a call of a classifier with the wrong shapes is refused by value and limit") {
  auto judge = nn::PictureClassifier<float>::load(folder_of("judge"));
  auto guide = nn::PictureClassifier<float>::load(folder_of("guide"));
  nn::PictureClassifier<float>::Scores scores;
  Batch<float> out;
  const auto two = pictures<float>({}, 2);
  const std::vector<double> none, one{5}, both{5, 6}, three{5, 6, 7}, infinite{HUGE_VAL};
  const std::vector<int> classes{1, 2}, high{1, 20}, low{-1, 1}, single{1};
  const Batch<float> colours(2, 3, 28, 28), tall(2, 1, 30, 28), broad(2, 1, 28, 27);
  const std::pair<std::function<void()>, std::string> cases[] = {
      {[&] { judge(colours, none, scores); }, "x has 3 channels, the network takes 1"},
      {[&] { judge(tall, none, scores); }, "x has height 30, the network takes 28"},
      {[&] { judge(broad, none, scores); }, "x has width 27, the network takes 28"},
      {[&] { judge(two, one, scores); }, "1 timesteps given, the network hears none"},
      {[&] { guide(two, none, scores); },
       "0 timesteps for a batch of 2, must be 1 or one for each"},
      {[&] { guide(two, three, scores); },
       "3 timesteps for a batch of 2, must be 1 or one for each"},
      {[&] { guide(two, infinite, scores); }, "timestep is inf, must be finite"},
      {[&] { guide.gradient(two, both, single, out); },
       "1 classes for a batch of 2, must be one for each"},
      {[&] { guide.gradient(two, both, high, out); }, "class is 20, must be from 0 to 19"},
      {[&] { judge.gradient(two, none, low, out); }, "class is -1, must be from 0 to 19"},
      {[&] { judge.set_threads(0); }, "threads is 0, must be from 1 to 1024"},
      {[&] { judge.set_threads(1025); }, "threads is 1025, must be from 1 to 1024"},
  };
  for (const auto& [call, message] : cases) CHECK_THAT(error_of(call), contains(message));
}

TEST_CASE("classifier configs are refused by field, value and limit") {
  const json good = read_json(data_folder / "small-guide" / "config.json");
  const auto error = [&](const char* key, const json& value) {
    json changed = good;
    changed[key] = value;
    return error_of([&] { nn::ClassifierConfig::parse(changed.dump()); });
  };
  CHECK(nn::ClassifierConfig::parse(good.dump()).block_channels == std::vector<std::int64_t>{3, 5});
  for (const auto& [key, value] : good.items()) {
    json changed = good;
    changed.erase(key);
    CHECK(error_of([&] { nn::ClassifierConfig::parse(changed.dump()); }) ==
          "config.json: " + key + " is missing");
  }
  const std::pair<std::pair<const char*, json>, std::string> cases[] = {
      {{"_class_name", "UNet2DModel"},
       "_class_name is \"UNet2DModel\", must be \"PictureClassifier\""},
      {{"in_channels", 0}, "in_channels is 0, must be an integer from 1 to"},
      {{"sample_size", 3}, "sample_size is 3, must be at least 4 for 2 poolings"},
      {{"sample_size", "13"}, "sample_size is \"13\", must be an integer"},
      {{"block_channels", json::array()}, "block_channels is [], must be a list of 1 to 16 values"},
      {{"block_channels", {3, -5}}, "block_channels is -5, must be an integer from 1 to"},
      {{"features", 1.5}, "features is 1.5, must be an integer"},
      {{"classes", -4}, "classes is -4, must be an integer from 1 to"},
      {{"activation", "gelu"}, "activation is \"gelu\", must be one of \"relu\", \"silu\""},
      {{"pooling", 2}, "pooling is 2, must be one of \"max\", \"average\""},
      {{"time_channels", 7}, "time_channels is 7, must be an even number"},
      {{"time_channels", nullptr}, "time_width is 6, must be null if and only if time_channels is"},
      {{"time_width", nullptr}, "time_width is null, must be null if and only if time_channels is"},
  };
  for (const auto& [change, message] : cases)
    CHECK_THAT(error(change.first, change.second), contains(message));
  CHECK_THAT(error_of([] { nn::ClassifierConfig::parse("[1]"); }), contains("config.json"));
}

TEST_CASE("classifier weights that are not those of the config are refused by name") {
  const auto load = [](const std::string& weights, const std::function<void(json&)>& change) {
    json config = read_json(data_folder / "small-guide" / "config.json");
    change(config);
    return error_of([&] {
      nn::PictureClassifier<float>(
          nn::ClassifierConfig::parse(config.dump()),
          nn::SafeTensors::read(data_folder / weights / "model.safetensors"));
    });
  };
  const auto same = [](json&) {};
  CHECK(load("small-guide", same) == "no error");
  CHECK_THAT(load("small-judge", same),
             contains("tensor 'time_embedding.linear_1.weight' is missing"));
  CHECK_THAT(load("small-guide", [](json& c) { c["time_channels"] = c["time_width"] = nullptr; }),
             contains("has no place in the network of the config (8 such in the file)"));
  CHECK_THAT(load("small-guide",
                  [](json& c) {
                    c["block_channels"] = {3, 6};
                  }),
             contains("tensor 'blocks.1.conv_1.weight' has shape [5, 3, 3, 3], the config "
                      "asks for [6, 3, 3, 3]"));
  CHECK_THAT(load("small-guide", [](json& c) { c["sample_size"] = 16; }),
             contains("tensor 'hidden.weight' has shape [7, 45], the config asks for [7, 80]"));
  CHECK_THAT(load("small-guide", [](json& c) { c["classes"] = 5; }),
             contains("tensor 'output.weight' has shape [4, 7], the config asks for [5, 7]"));
  CHECK_THAT(error_of([] { nn::PictureClassifier<float>::load(data_folder / "nowhere"); }),
             contains("there is no such file"));
}

TEST_CASE("what a thread throws reaches the caller") {
  nn::SampleThreads<int> threads;
  threads.set_count(2);
  CHECK(error_of([&] {
          threads.for_each(8, [](Index i, int&) {
            if (i == 5) throw std::runtime_error("five");
          });
        }) == "five");
}
