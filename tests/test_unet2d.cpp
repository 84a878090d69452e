// The network of the examples: its layers against their definitions, the whole against diffusers'
// UNet2DModel (data written by python/make_unet_reference.py), and files that are not what they
// should be.

#include "catch.hpp"

#include "../examples/nn/layers.hpp"
#include "../examples/nn/safetensors.hpp"
#include "../examples/nn/unet2d.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <functional>
#include <limits>
#include <random>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace {

using Eigen::Index;
using nlohmann::json;
using Bytes = std::vector<std::byte>;

const std::filesystem::path data_folder = std::filesystem::path(DIFFUSION_TEST_DATA) / "unet";
const char* const weights_name = "diffusion_pytorch_model.safetensors";

template <class Scalar>
using Batch = Eigen::Tensor<Scalar, 4, Eigen::RowMajor>;

// ---- files made in memory ----------------------------------------------------------------------

struct File {
  json header = json::object();
  Bytes data;
};

Bytes serialised(std::string header, const Bytes& data = {}) {
  const std::uint64_t length = header.size();
  Bytes bytes(sizeof(length) + header.size() + data.size());
  std::memcpy(bytes.data(), &length, sizeof(length));
  std::memcpy(bytes.data() + sizeof(length), header.data(), header.size());
  std::copy(data.begin(), data.end(),
            bytes.begin() + static_cast<std::ptrdiff_t>(sizeof(length) + header.size()));
  return bytes;
}

Bytes serialised(const File& file) { return serialised(file.header.dump(), file.data); }

File opened(const Bytes& bytes) {
  std::uint64_t length = 0;
  std::memcpy(&length, bytes.data(), sizeof(length));
  const auto data = bytes.begin() + static_cast<std::ptrdiff_t>(sizeof(length) + length);
  const char* text = reinterpret_cast<const char*>(bytes.data()) + sizeof(length);
  return {json::parse(text, text + length), Bytes(data, bytes.end())};
}

void append(File& file, const std::string& name, const std::vector<std::int64_t>& shape,
            const std::vector<float>& values) {
  const std::size_t begin = file.data.size();
  file.data.resize(begin + values.size() * sizeof(float));
  std::memcpy(file.data.data() + begin, values.data(), values.size() * sizeof(float));
  file.header[name] = {
      {"dtype", "F32"}, {"shape", shape}, {"data_offsets", {begin, file.data.size()}}};
}

std::string error_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const std::exception& error) {
    return error.what();
  }
  return "no error";
}

std::string parse_error(const Bytes& bytes) {
  return error_of([&] { nn::SafeTensors::parse(bytes, "file"); });
}

// ---- layers -------------------------------------------------------------------------------------

std::vector<float> random_floats(std::size_t count, unsigned seed) {
  std::mt19937 bits(seed);
  std::vector<float> values(count);
  for (float& value : values)
    value = static_cast<float>(bits()) / 2147483648.0f - 1.0f;  // in [-1, 1]
  return values;
}

template <class Scalar>
nn::FeatureMap<Scalar> random_map(nn::Arena<Scalar>& arena, Index channels, Index height,
                                  Index width) {
  const auto map = arena.map(channels, height, width);
  const auto values = random_floats(static_cast<std::size_t>(map.size()), 7);
  std::copy(values.begin(), values.end(), map.data);
  return map;
}

/// The definition of a convolution, one output at a time.
double convolved(const nn::ConvShape& shape, const std::vector<float>& weight,
                 const nn::FeatureMap<double>& x, Index channel, Index y, Index z) {
  double sum = 0.0;
  for (Index c = 0; c < shape.in; ++c)
    for (Index i = 0; i < shape.kernel; ++i)
      for (Index j = 0; j < shape.kernel; ++j) {
        const Index row = y * shape.stride + i - shape.pad_before;
        const Index column = z * shape.stride + j - shape.pad_before;
        if (row < 0 || column < 0 || row >= x.height * shape.enlarge ||
            column >= x.width * shape.enlarge)
          continue;
        const Index w = ((channel * shape.in + c) * shape.kernel + i) * shape.kernel + j;
        sum += static_cast<double>(weight[static_cast<std::size_t>(w)]) *
               x.channel(c)[row / shape.enlarge * x.width + column / shape.enlarge];
      }
  return sum;
}

double conv_error(const nn::ConvShape& shape, Index height, Index width) {
  const auto count = static_cast<std::size_t>(shape.out * shape.in * shape.kernel * shape.kernel);
  const auto weight = random_floats(count, 1);
  const auto bias = random_floats(static_cast<std::size_t>(shape.out), 2);
  File file;
  append(file, "conv.weight", {shape.out, shape.in, shape.kernel, shape.kernel}, weight);
  append(file, "conv.bias", {shape.out}, bias);
  const auto tensors = nn::SafeTensors::parse(serialised(file));
  nn::Parameters<double> parameters(tensors);
  const nn::Conv2d<double> conv(parameters, "conv", shape);

  nn::Arena<double> arena;
  const auto x = random_map<double>(arena, shape.in, height, width);
  const auto out = conv.result(arena, x);
  const auto with_residual = conv.result(arena, x);
  conv(arena, x, out);
  std::copy_n(out.data, out.size(), with_residual.data);
  conv(arena, x, with_residual, nullptr, with_residual.data);

  double error = 0.0;
  for (Index c = 0; c < out.channels; ++c)
    for (Index y = 0; y < out.height; ++y)
      for (Index z = 0; z < out.width; ++z) {
        const double expected = convolved(shape, weight, x, c, y, z) +
                                static_cast<double>(bias[static_cast<std::size_t>(c)]);
        const Index at = y * out.width + z;
        error = std::max({error, std::abs(out.channel(c)[at] - expected),
                          std::abs(with_residual.channel(c)[at] - 2.0 * expected)});
      }
  return error;
}

}  // namespace

TEST_CASE("a convolution is the sum of its definition") {
  // Widths around the kernel's blocks of rows and columns, odd sizes, one pixel.
  for (const Index kernel : {1, 3})
    for (const Index stride : {1, 2})
      for (const Index enlarge : {1, 2})
        for (const auto& [in, out] : {std::pair<Index, Index>{1, 1}, {3, 7}, {5, 17}})
          for (const auto& [height, width] :
               {std::pair<Index, Index>{1, 1}, {5, 4}, {9, 13}, {3, 50}})
            for (const auto& [before, after] : {std::pair<Index, Index>{0, 1}, {1, 1}, {2, 2}}) {
              const nn::ConvShape shape{in, out, kernel, stride, before, after, enlarge};
              if (shape.extent(height) < 1 || shape.extent(width) < 1) continue;
              INFO("kernel " << kernel << " stride " << stride << " enlarge " << enlarge << " in "
                             << in << " out " << out << " height " << height << " width " << width
                             << " padding " << before << " " << after);
              CHECK(conv_error(shape, height, width) < 1e-13 * static_cast<double>(9 * in + 9));
            }
}

TEST_CASE("a 1x1 convolution without padding is the sum of its definition") {
  for (const auto& [height, width] : {std::pair<Index, Index>{1, 1}, {7, 7}, {5, 21}})
    CHECK(conv_error(nn::conv1x1(11, 13), height, width) < 1e-13);
}

TEST_CASE("group norm gives each group mean 0 and variance 1, then scales and shifts") {
  File file;
  append(file, "norm.weight", {6}, {1, 1, 1, 2, 2, 2});
  append(file, "norm.bias", {6}, {0, 0, 0, -3, -3, -3});
  const auto tensors = nn::SafeTensors::parse(serialised(file));
  nn::Parameters<double> parameters(tensors);
  const nn::GroupNorm<double> norm(parameters, "norm", 6, 2, 0.0);
  nn::Arena<double> arena;
  const auto x = random_map<double>(arena, 6, 5, 3);
  const auto out = arena.map(6, 5, 3);
  norm(x, std::nullopt, out);
  const nn::ArrayMap<double> first(out.data, 45), second(out.data + 45, 45);
  CHECK(std::abs(first.mean()) < 1e-14);
  CHECK(first.square().mean() == Catch::Approx(1.0).epsilon(1e-13));
  CHECK(second.mean() == Catch::Approx(-3.0).epsilon(1e-13));
  CHECK((second + 3.0).square().mean() == Catch::Approx(4.0).epsilon(1e-13));
}

TEST_CASE("activations take their known values") {
  using nn::Activation;
  const std::vector<double> x{-10.0, -1.0, 0.0, 2.0};
  const std::vector<std::pair<Activation, std::vector<double>>> table{
      {Activation::silu, {-4.5397868702434395e-4, -0.2689414213699951, 0.0, 1.7615941559557646}},
      {Activation::relu, {0.0, 0.0, 0.0, 2.0}},
      {Activation::gelu, {-7.619853024160526e-23, -0.15865525393145707, 0.0, 1.9544997361036416}},
      {Activation::mish, {-0.00045398899185674697, -0.30340146137410895, 0.0, 1.9439589595339946}}};
  for (const auto& [act, expected] : table) {
    std::vector<double> y(4);
    nn::affine_activation(act, x.data(), 4, 1.0, 0.0, y.data());
    for (std::size_t i = 0; i < 4; ++i)
      CHECK(y[i] == Catch::Approx(expected[i]).epsilon(1e-12).margin(1e-15));
  }
  // Far out nothing overflows.
  const std::vector<float> far{-1e4f, -200.0f, 200.0f, 1e4f};
  for (const auto& entry : table) {
    std::vector<float> y(4);
    nn::affine_activation(entry.first, far.data(), 4, 1.0f, 0.0f, y.data());
    CHECK(std::abs(y[0]) < 1e-20f);
    CHECK(std::abs(y[1]) < 1e-20f);
    CHECK(y[2] == 200.0f);
    CHECK(y[3] == 1e4f);
  }
}

TEST_CASE("a half-precision file gives its numbers exactly") {
  // 1, -2, the smallest subnormal, the largest number, infinity.
  const std::vector<std::uint16_t> half{0x3c00, 0xc000, 0x0001, 0x7bff, 0x7c00};
  const std::vector<std::uint16_t> brain{0x3f80, 0xc000, 0x0001, 0x7f7f, 0x7f80};
  Bytes data(20);
  std::memcpy(data.data(), half.data(), 10);
  std::memcpy(data.data() + 10, brain.data(), 10);
  const auto file = nn::SafeTensors::parse(serialised(
      R"({"a":{"dtype":"F16","shape":[5],"data_offsets":[0,10]},)"
      R"("b":{"dtype":"BF16","shape":[5],"data_offsets":[10,20]},"__metadata__":{"x":"y"}}   )",
      data));
  CHECK(file.tensors().size() == 2);
  CHECK(nn::values_of<double>(file.tensors().at("a")) ==
        std::vector<double>{1.0, -2.0, std::ldexp(1.0, -24), 65504.0,
                            std::numeric_limits<double>::infinity()});
  CHECK(nn::values_of<float>(file.tensors().at("b")) ==
        std::vector<float>{1.0f, -2.0f, std::ldexp(1.0f, -133),
                           std::ldexp(2.0f - std::ldexp(1.0f, -7), 127),
                           std::numeric_limits<float>::infinity()});
}

// ---- the whole network --------------------------------------------------------------------------

namespace {

struct Reference {
  std::vector<double> t;
  std::vector<int> labels;
  std::vector<float> class_vectors;
  std::vector<std::int64_t> x_shape, out_shape;
  std::vector<float> x, out;

  explicit Reference(const std::filesystem::path& folder) {
    const auto file = nn::SafeTensors::read(folder / "reference.safetensors");
    const auto& tensors = file.tensors();
    t = nn::values_of<double>(tensors.at("t"));
    x_shape = tensors.at("x").shape;
    out_shape = tensors.at("out").shape;
    x = nn::values_of<float>(tensors.at("x"));
    out = nn::values_of<float>(tensors.at("out"));
    if (tensors.contains("class_vectors"))
      class_vectors = nn::values_of<float>(tensors.at("class_vectors"));
    if (tensors.contains("labels"))
      for (const float label : nn::values_of<float>(tensors.at("labels")))
        labels.push_back(static_cast<int>(label));
  }

  template <class Scalar>
  Batch<Scalar> batch(Index first, Index count) const {
    Batch<Scalar> result(count, x_shape[1], x_shape[2], x_shape[3]);
    const Index size = x_shape[1] * x_shape[2] * x_shape[3];
    std::copy_n(x.data() + first * size, count * size, result.data());
    return result;
  }

  template <class Scalar>
  void run(nn::Unet2d<Scalar>& network, std::size_t step, Index first, Index count,
           Batch<Scalar>& result) const {
    const auto from = static_cast<std::size_t>(first), number = static_cast<std::size_t>(count);
    if (class_vectors.empty()) {
      const auto some = labels.empty() ? std::span<const int>()
                                       : std::span<const int>(labels).subspan(from, number);
      network(batch<Scalar>(first, count), t[step], some, result);
      return;
    }
    const std::size_t width = class_vectors.size() / 6;
    const std::vector<Scalar> vectors(
        class_vectors.begin() + static_cast<std::ptrdiff_t>(from * width),
        class_vectors.begin() + static_cast<std::ptrdiff_t>((from + number) * width));
    network.call_with_class_vectors(batch<Scalar>(first, count), t[step], vectors, result);
  }

  /// The largest error, relative to the largest answer at that timestep or 1.
  template <class Scalar>
  double error(const Batch<Scalar>& result, std::size_t step, Index first) const {
    const Index size = out_shape[2] * out_shape[3] * out_shape[4];
    const float* expected = out.data() + (static_cast<Index>(step) * 6 + first) * size;
    double worst = 0.0, largest = 1.0;
    for (Index i = 0; i < result.size(); ++i) {
      const auto e = static_cast<double>(expected[i]);
      largest = std::max(largest, std::abs(e));
      const double difference = std::abs(static_cast<double>(result.data()[i]) - e);
      worst = difference <= worst ? worst : difference;  // so that NaN is kept
    }
    return worst / largest;
  }
};

const std::vector<std::pair<Index, Index>> batches{{0, 1}, {1, 2}, {3, 3}};  // first, count

const std::vector<std::string> cases{"class_conditional", "attention_heads", "attention_narrow",
                                     "attention_whole",   "four_levels",     "scale_shift",
                                     "resnet_resampling", "fourier_skip",    "attention_skip",
                                     "class_timestep",    "class_identity",  "learned_time",
                                     "old_names"};

template <class Scalar>
void check_against_reference(double tolerance) {
  for (const std::string& name : cases) {
    const Reference reference(data_folder / name);
    auto network = nn::Unet2d<Scalar>::load(data_folder / name);
    Batch<Scalar> result;
    for (std::size_t step = 0; step < reference.t.size(); ++step)
      for (const auto& [first, count] : batches) {
        INFO(name << ", t = " << reference.t[step] << ", batch of " << count);
        reference.run(network, step, first, count, result);
        REQUIRE(result.dimension(0) == count);
        REQUIRE(result.dimension(1) == reference.out_shape[2]);
        REQUIRE(result.dimension(2) == reference.x_shape[2]);
        REQUIRE(result.dimension(3) == reference.x_shape[3]);
        CHECK(reference.error(result, step, first) <= tolerance);
      }
  }
}

template <class Scalar>
bool same_bits(const Batch<Scalar>& a, const Batch<Scalar>& b) {
  return a.size() == b.size() &&
         std::memcmp(a.data(), b.data(), static_cast<std::size_t>(a.size()) * sizeof(Scalar)) == 0;
}

template <class Scalar>
Batch<Scalar> one_by_one(nn::Unet2d<Scalar>& network, const Reference& reference,
                         std::size_t step) {
  Batch<Scalar> all(6, reference.out_shape[2], reference.out_shape[3], reference.out_shape[4]);
  for (Index i = 0; i < 6; ++i) {
    Batch<Scalar> one;
    reference.run(network, step, i, 1, one);
    std::copy_n(one.data(), one.size(), all.data() + i * one.size());
  }
  return all;
}

template <class Scalar>
void check_independence() {
  for (const char* name : {"class_conditional", "attention_heads", "four_levels", "fourier_skip"}) {
    INFO(name);
    const Reference reference(data_folder / name);
    auto network = nn::Unet2d<Scalar>::load(data_folder / name);
    const auto expected = one_by_one(network, reference, 1);
    for (const int threads : {1, 2, 3, 7}) {
      INFO(threads << " threads");
      network.set_threads(threads);
      CHECK(network.threads() == threads);
      Batch<Scalar> result;
      for (int repeat = 0; repeat < 5; ++repeat) {
        reference.run(network, 1, 0, 6, result);
        CHECK(same_bits(result, expected));
      }
    }
  }
}

}  // namespace

TEST_CASE("the network equals diffusers' UNet2DModel in float") {
  check_against_reference<float>(1e-5);
}

TEST_CASE("the network equals diffusers' UNet2DModel in double") {
  check_against_reference<double>(1e-5);
}

TEST_CASE("a sample's result does not depend on batch or threads, bit for bit") {
  check_independence<float>();
  check_independence<double>();
}

TEST_CASE("each sample may have its own timestep") {
  const Reference reference(data_folder / "class_conditional");
  auto network = nn::Unet2d<float>::load(data_folder / "class_conditional");
  const std::vector<double> t{999.0, 480.0, 0.0};
  Batch<float> together, alone;
  network(reference.batch<float>(0, 3), t, std::span(reference.labels).first(3), together);
  for (std::size_t i = 0; i < 3; ++i) {
    reference.run(network, i, static_cast<Index>(i), 1, alone);
    CHECK(std::memcmp(together.data() + static_cast<Index>(i) * alone.size(), alone.data(),
                      static_cast<std::size_t>(alone.size()) * sizeof(float)) == 0);
  }
}

TEST_CASE("the network may change sizes from call to call, move, and take an empty batch") {
  const Reference reference(data_folder / "class_conditional");
  auto first = nn::Unet2d<float>::load(data_folder / "class_conditional");
  Batch<float> expected, result;
  reference.run(first, 0, 0, 2, expected);
  Batch<float> large(1, 1, 32, 20);
  large.setRandom();
  const std::vector<int> label{3};
  first(large, 10.0, label, result);
  CHECK(result.dimension(2) == 32);
  CHECK(result.dimension(3) == 20);
  auto second = std::move(first);
  reference.run(second, 0, 0, 2, result);
  CHECK(same_bits(result, expected));
  second(Batch<float>(0, 1, 8, 8), 10.0, {}, result);
  CHECK(result.dimension(0) == 0);
  CHECK(second.config().num_class_embeds == 21);
}

// ---- what is refused ----------------------------------------------------------------------------

TEST_CASE("a call with the wrong shapes is refused by value and limit") {
  auto classes = nn::Unet2d<float>::load(data_folder / "class_conditional");
  auto none = nn::Unet2d<float>::load(data_folder / "scale_shift");
  auto learned = nn::Unet2d<float>::load(data_folder / "learned_time");
  auto identity = nn::Unet2d<float>::load(data_folder / "class_identity");
  auto skip = nn::Unet2d<float>::load(data_folder / "fourier_skip");
  const auto call = [](nn::Unet2d<float>& network, std::vector<Index> shape, double t,
                       std::vector<int> labels) {
    Batch<float> x(shape[0], shape[1], shape[2], shape[3]), out;
    x.setZero();
    return error_of([&] { network(x, t, labels, out); });
  };
  CHECK(call(classes, {2, 1, 8, 8}, 5, {1, 20}) == "no error");
  CHECK(call(classes, {2, 3, 8, 8}, 5, {1, 2}) == "Unet2d: x has 3 channels, the network takes 1");
  CHECK(call(classes, {2, 1, 10, 8}, 5, {1, 2}) ==
        "Unet2d: x has height 10: going up gives 6 pixels where 5 were on the way down; "
        "multiples of 4 fit");
  CHECK(call(classes, {2, 1, 8, 7}, 5, {1, 2}) ==
        "Unet2d: x has width 7: going up gives 8 pixels where 7 were on the way down; "
        "multiples of 4 fit");
  CHECK_THAT(call(classes, {2, 1, 0, 8}, 5, {1, 2}), contains("x has height 0"));
  CHECK(call(classes, {2, 1, 8, 8}, 5, {1}) ==
        "Unet2d: 1 class labels for a batch of 2, must be one for each sample");
  CHECK_THAT(call(classes, {2, 1, 8, 8}, 5, {}), contains("0 class labels for a batch of 2"));
  CHECK(call(classes, {1, 1, 8, 8}, 5, {21}) == "class label is 21, must be from 0 to 20");
  CHECK(call(classes, {1, 1, 8, 8}, 5, {-1}) == "class label is -1, must be from 0 to 20");
  CHECK(call(none, {1, 3, 8, 8}, 5, {0}) == "Unet2d: 1 class labels given, the network takes none");
  CHECK_THAT(call(none, {1, 3, 8, 8}, std::nan(""), {}), contains("timestep is"));
  CHECK_THAT(call(learned, {1, 1, 6, 2}, 20, {}), contains("must be an integer from 0 to 19"));
  CHECK_THAT(call(learned, {1, 1, 6, 2}, 0.5, {}), contains("timestep is 0.5"));
  CHECK_THAT(call(skip, {1, 3, 2, 8}, 5, {}), contains("x has height 2"));
  CHECK(call(identity, {2, 1, 7, 9}, 5, {}) ==
        "Unet2d: class vectors hold 0 numbers, the network takes 24, batch times "
        "time_embedding_dim");
  CHECK(error_of([&] { none.set_threads(0); }) == "Unet2d: threads is 0, must be from 1 to 1024");
  CHECK_THAT(error_of([&] { none.set_threads(1025); }), contains("threads is 1025"));
  CHECK(none.threads() == 1);

  Batch<float> x(2, 3, 8, 8), out;
  x.setZero();
  const std::vector<double> three{1.0, 2.0, 3.0};
  CHECK(error_of([&] { none(x, three, {}, out); }) ==
        "Unet2d: 3 timesteps for a batch of 2, must be 1 or one for each sample");
}

TEST_CASE("malformed safetensors files are refused with what is wrong") {
  const std::string good = R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})";
  const auto with = [](const std::string& dtype, const std::string& shape,
                       const std::string& offsets) {
    return R"({"a":{"dtype":)" + dtype + R"(,"shape":)" + shape + R"(,"data_offsets":)" + offsets +
           "}}";
  };
  REQUIRE(parse_error(serialised(good, Bytes(8))) == "no error");
  REQUIRE(parse_error(serialised(R"({})")) == "no error");

  struct Row {
    std::string header;
    std::size_t bytes;
    std::string message;
  };
  const std::vector<Row> table{
      {good, 7, "[0, 8] end after the 7 bytes of data in the file"},
      {good, 9, "the tensors cover 8 bytes, the file has 9 bytes of data"},
      {"", 0, "not valid JSON"},
      {"{", 0, "not valid JSON"},
      {good + "}", 8, "not valid JSON"},
      {std::string("{\"\xff\":1}"), 0, "not valid JSON"},
      {std::string(100000, '['), 0, "nested deeper than 64"},
      {"[]", 0, "the header is [], must be a JSON object"},
      {"17", 0, "the header is 17, must be a JSON object"},
      {R"({"a":1})", 0, "tensor 'a': needs dtype, shape and data_offsets, has 1"},
      {R"({"a":{"dtype":"F32","shape":[0]}})", 0, "needs dtype, shape and data_offsets"},
      {with(R"("I64")", "[1]", "[0,8]"), 8, "dtype is \"I64\", must be one of F16, BF16, F32, F64"},
      {with("7", "[1]", "[0,8]"), 8, "dtype is 7"},
      {with(R"("F64")", "[2]", "[0,8]"), 8, "needs 16 bytes, data_offsets [0, 8] give 8"},
      {with(R"("F16")", "[2]", "[0,8]"), 8, "needs 4 bytes, data_offsets [0, 8] give 8"},
      {with(R"("F32")", "[3]", "[0,8]"), 8, "shape [3] of \"F32\" needs 12 bytes"},
      {with(R"("F32")", "[-2]", "[0,8]"), 8, "shape is [-2], must be a list"},
      {with(R"("F32")", "[2.0]", "[0,8]"), 8, "shape is [2.0], must be a list"},
      {with(R"("F32")", "2", "[0,8]"), 8, "shape is 2, must be a list"},
      {with(R"("F32")", "[18446744073709551615]", "[0,8]"), 8, "must be a list"},
      {with(R"("F32")", "[18446744073709551616]", "[0,8]"), 8, "must be a list"},
      {with(R"("F32")", "[4294967296,4294967296]", "[0,8]"), 8, "overflows 64 bits"},
      {with(R"("F32")", "[4611686018427387904,4]", "[0,0]"), 0, "overflows 64 bits"},
      {with(R"("F32")", "[" + std::string(64, '1') + "]", "[0,8]"), 8, "must be a list"},
      {with(R"("F32")", "[2]", "[8,0]"), 8, "data_offsets [8, 0] decrease"},
      {with(R"("F32")", "[2]", "[8,16]"), 8, "end after the 8 bytes"},
      {with(R"("F32")", "[2]", "[0,9223372036854775807]"), 8, "end after the 8 bytes"},
      {with(R"("F32")", "[2]", "[9223372036854775800,9223372036854775807]"), 8, "end after"},
      {with(R"("F32")", "[2]", "[-8,0]"), 8, "data_offsets is [-8,0]"},
      {with(R"("F32")", "[2]", "[0]"), 8, "data_offsets is [0], must be [begin, end]"},
      {with(R"("F32")", "[2]", "[0,4,8]"), 8, "must be [begin, end]"},
      {with(R"("F32")", "[2]", "null"), 8, "data_offsets is null"},
      {with(R"("F32")", "[1]", "[4,8]"), 8, "no tensor covers the data from 0 to 4"},
      {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
       R"("b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}})",
       12, "tensor 'b' overlaps another: it begins at 4, the data before it ends at 8"},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
       R"("b":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}})",
       12, "no tensor covers the data from 4 to 8"},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
       R"("a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})",
       8, "the key \"a\" stands twice"}};
  for (const Row& row : table) {
    INFO(row.header.substr(0, 200));
    const std::string error = parse_error(serialised(row.header, Bytes(row.bytes)));
    CHECK_THAT(error, contains(row.message));
    CHECK(error.substr(0, 5) == "file:");
    CHECK(error.size() < 400);
  }
}

TEST_CASE("a safetensors header length that the file does not have is refused") {
  const auto with_length = [](std::uint64_t length, std::size_t rest) {
    Bytes bytes(8 + rest);
    std::memcpy(bytes.data(), &length, 8);
    return parse_error(bytes);
  };
  CHECK(with_length(1, 0) ==
        "file: header length 1 is above the 0 bytes that the file has after it");
  CHECK_THAT(with_length(100, 99), contains("header length 100 is above the 99 bytes"));
  CHECK_THAT(with_length(100'000'001, 16), contains("above the limit 100000000"));
  CHECK_THAT(with_length(UINT64_MAX, 16), contains("header length 18446744073709551615"));
  CHECK_THAT(with_length(UINT64_MAX - 7, 16), contains("above the limit"));
  for (std::size_t size = 0; size < 8; ++size)
    CHECK(parse_error(Bytes(size)) ==
          "file: the file has " + std::to_string(size) + " bytes, needs at least 8");
}

TEST_CASE("a safetensors error does not repeat a long or unprintable header") {
  const std::string many(5000, 'x');
  CHECK(parse_error(serialised("{\"" + many + "\":1}")) ==
        "file: tensor '" + many.substr(0, 200) +
            "...': needs dtype, shape and data_offsets, has 1");
  CHECK_THAT(parse_error(serialised(R"({"a\u0000\n\u001b":1})")), contains("tensor 'a??"
                                                                           "?': needs"));
  const std::string error = parse_error(serialised("{\"" + many));
  CHECK_THAT(error, contains("not valid JSON") && contains("..."));
  CHECK(error.size() < 400);
}

TEST_CASE("a config that claims more than memory holds is refused by what its weights lack") {
  const auto error = error_of([] {
    const std::string config = R"({"block_out_channels": [1048576, 1048576, 1048576, 1048576]})";
    nn::Unet2d<float>(nn::Unet2dConfig::parse(config),
                      nn::SafeTensors::parse(serialised(R"({})"), "weights"));
  });
  CHECK(error ==
        "weights: tensor 'time_embedding.linear_1.weight' is missing, the config asks for one of "
        "shape [4194304, 1048576]");
}

TEST_CASE("a file that was cut short anywhere is refused") {
  const Bytes whole = nn::detail::read_file(data_folder / "old_names" / weights_name);
  REQUIRE(parse_error(whole) == "no error");
  std::size_t refused = 0, tried = 0;
  for (std::size_t size = 0; size < whole.size(); size += size < 600 ? 1 : 101, ++tried) {
    const std::string error =
        parse_error({whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size)});
    if (error.substr(0, 6) == "file: ") ++refused;
  }
  CHECK(tried > 700);
  CHECK(refused == tried);
}

TEST_CASE("a file with bytes changed at random is read or refused, and nothing else") {
  const Bytes whole = nn::detail::read_file(data_folder / "old_names" / weights_name);
  std::uint64_t header = 0;
  std::memcpy(&header, whole.data(), 8);
  const auto config = nn::Unet2dConfig::read(data_folder / "old_names" / "config.json");
  std::mt19937 bits(5);
  std::size_t refused = 0;
  for (int round = 0; round < 400; ++round) {
    Bytes changed = whole;
    for (int k = 0; k < 3; ++k) changed[bits() % (8 + header)] = static_cast<std::byte>(bits());
    const std::string error =
        error_of([&] { nn::Unet2d<float>(config, nn::SafeTensors::parse(changed)); });
    if (error != "no error") ++refused;
  }
  CHECK(refused > 300);
}

TEST_CASE("weights that are not those of the config are refused by the tensor's name") {
  const auto folder = data_folder / "class_conditional";
  const auto config = nn::Unet2dConfig::read(folder / "config.json");
  const File whole = opened(nn::detail::read_file(folder / weights_name));
  const auto error = [&](const std::function<void(File&)>& edit) {
    File file = whole;
    edit(file);
    return error_of(
        [&] { nn::Unet2d<float>(config, nn::SafeTensors::parse(serialised(file), "weights")); });
  };
  const std::string conv = "down_blocks.1.resnets.0.conv1.weight";
  CHECK(error([](File&) {}) == "no error");
  CHECK(error([](File& file) {
          append(file, "down_blocks.9.extra", {2}, {1, 2});
        }) ==
        "weights: tensor 'down_blocks.9.extra' has no place in the network of the config "
        "(1 such in the file)");
  CHECK(error([&](File& file) {
          file.header["renamed"] = file.header[conv];
          file.header.erase(conv);
        }) == "weights: tensor '" + conv +
                  "' is missing, the config asks for one of shape [16, 8, 3, 3]");
  CHECK(error([&](File& file) {
          file.header[conv]["shape"] = {8, 16, 3, 3};
        }) == "weights: tensor '" + conv +
                  "' has shape [8, 16, 3, 3], the config asks for [16, 8, 3, 3]");
  CHECK_THAT(error([&](File& file) { file.header[conv]["shape"] = {16 * 8 * 9}; }),
             contains("has shape [1152], the config asks for [16, 8, 3, 3]"));
  CHECK_THAT(error([&](File& file) { file.header[conv]["dtype"] = "BF32"; }),
             contains("tensor '" + conv + "': dtype is \"BF32\""));
  CHECK_THAT(error([&](File& file) { file.header[conv]["dtype"] = "F32"; }),
             contains("tensor '" + conv + "': shape [16, 8, 3, 3] of \"F32\" needs 4608 bytes"));

  CHECK_THAT(error_of([&] { nn::Unet2d<float>::load(data_folder / "nowhere"); }),
             contains("config.json': there is no such file"));
  CHECK_THAT(error_of([&] { nn::SafeTensors::read(data_folder); }),
             contains("there is no such file"));
}

TEST_CASE("configs are refused by field, value and limit") {
  const auto folder = data_folder / "class_conditional";
  const auto bytes = nn::detail::read_file(folder / "config.json");
  const json good = json::parse(reinterpret_cast<const char*>(bytes.data()),
                                reinterpret_cast<const char*>(bytes.data()) + bytes.size());
  const auto weights = nn::SafeTensors::read(folder / weights_name);
  const auto error = [&](const std::string& text) {
    return error_of([&] { nn::Unet2d<float>(nn::Unet2dConfig::parse(text), weights); });
  };
  REQUIRE(error(good.dump()) == "no error");

  struct Row {
    std::string field;
    json value;
    std::string message;
  };
  const std::vector<Row> table{
      {"_class_name", "UNet2DConditionModel",
       "is \"UNet2DConditionModel\", must be \"UNet2DModel\""},
      {"sample_size", 0, "sample_size is 0, must be an integer from 1"},
      {"sample_size", json::array({1, 2, 3}),
       "sample_size is [1,2,3], must be an integer, [height"},
      {"in_channels", 0, "in_channels is 0, must be an integer from 1 to 1048576"},
      {"in_channels", 1048577, "in_channels is 1048577, must be an integer from 1 to 1048576"},
      {"in_channels", 1.5, "in_channels is 1.5, must be an integer"},
      {"in_channels", "3", "in_channels is \"3\", must be an integer"},
      {"in_channels", nullptr, "in_channels is null, must be an integer"},
      {"in_channels", 18446744073709551615u, "in_channels is 18446744073709551615, must be"},
      {"out_channels", -1, "out_channels is -1, must be an integer from 1"},
      {"center_input_sample", 1, "center_input_sample is 1, must be true or false"},
      {"time_embedding_type", "cosine",
       "time_embedding_type is \"cosine\", must be one of \"positional\", \"fourier\", "
       "\"learned\""},
      {"time_embedding_type", "learned", "num_train_timesteps is null, must be at least 1"},
      {"time_embedding_dim", -4, "time_embedding_dim is -4, must be an integer from 0"},
      {"time_embedding_dim", 64, "'time_embedding.linear_1.weight' has shape [32, 8]"},
      {"freq_shift", "0", "freq_shift is \"0\", must be a number"},
      {"freq_shift", 1e31, "must be a number between"},
      {"flip_sin_to_cos", "yes", "flip_sin_to_cos is \"yes\", must be true or false"},
      {"down_block_types", json::array({"DownBlock2D", "KDownBlock2D", "AttnDownBlock2D"}),
       "down_block_types[1] is \"KDownBlock2D\", must be one of \"DownBlock2D\", \"Attn"},
      {"down_block_types", json::array({"DownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"}),
       "is \"CrossAttnDownBlock2D\", must be one of"},
      {"down_block_types", json::array({"DownBlock2D", 7, "DownBlock2D"}),
       "down_block_types[1] is 7"},
      {"down_block_types", json::array(), "down_block_types is [], must be a list of 1 to 16"},
      {"down_block_types", json::array({"DownBlock2D"}),
       "block_out_channels has 3 levels, down_block_types 1, up_block_types 3: must be equal"},
      {"down_block_types", json::array({"SkipDownBlock2D", "DownBlock2D", "DownBlock2D"}),
       "in_channels is 1, must be 3 with SkipDownBlock2D"},
      {"mid_block_type", "UNetMidBlock2DCrossAttn",
       "mid_block_type is \"UNetMidBlock2DCrossAttn\", must be \"UNetMidBlock2D\" or null"},
      {"mid_block_type", nullptr, "'mid_block.attentions.0.group_norm.bias' has no place"},
      {"up_block_types", json::array({"UpBlock2D", "AttnUpBlock2D", "DownBlock2D"}),
       "up_block_types[2] is \"DownBlock2D\", must be one of \"UpBlock2D\""},
      {"up_block_types", json::array({"SkipUpBlock2D", "UpBlock2D", "UpBlock2D"}),
       "out_channels is 1, must be 3 with SkipUpBlock2D"},
      {"up_block_types", "UpBlock2D", "up_block_types is \"UpBlock2D\", must be a list"},
      {"block_out_channels", json::array({8, 0, 16}), "block_out_channels is 0, must be"},
      {"block_out_channels", json::array({8, 16}), "block_out_channels has 2 levels"},
      {"block_out_channels", std::vector<int>(17, 8), "must be a list of 1 to 16 values"},
      {"block_out_channels", json::array({8, 16, 24}), "has shape"},
      {"block_out_channels", json::array({8, 18, 16}), "the config asks for [18, 8, 3, 3]"},
      {"layers_per_block", 0, "layers_per_block is 0, must be an integer from 1 to 1024"},
      {"layers_per_block", 1025, "layers_per_block is 1025"},
      {"layers_per_block", json::array({1, 2, 1}), "layers_per_block is [1,2,1]"},
      {"layers_per_block", 2, "is missing"},
      {"mid_block_scale_factor", 0, "mid_block_scale_factor is 0, must not be 0"},
      {"downsample_padding", -1, "downsample_padding is -1, must be an integer from 0 to 1024"},
      {"downsample_type", "pool",
       "downsample_type is \"pool\", must be one of \"conv\", \"resnet\""},
      {"upsample_type", "bilinear", "upsample_type is \"bilinear\", must be one of"},
      {"act_fn", "geglu", "act_fn is \"geglu\", must be one of \"silu\", \"swish\", \"mish\""},
      {"act_fn", nullptr, "act_fn is null"},
      {"attention_head_dim", 0, "attention_head_dim is 0, must be an integer from 1"},
      {"attention_head_dim", 17,
       "attention_head_dim is 17, must be at most the width of its block"},
      {"norm_num_groups", 0, "norm_num_groups is 0, must be an integer from 1"},
      {"norm_num_groups", 3, "3 groups for the 8 channels of"},
      {"norm_num_groups", nullptr, "null groups for the 8 channels of"},
      {"attn_norm_num_groups", 5, "5 groups for the 16 channels of 'mid_block.attentions.0"},
      {"norm_eps", -1e-5, "norm_eps is -0.000010, must be at least 0"},
      {"resnet_time_scale_shift", "spatial",
       "resnet_time_scale_shift is \"spatial\", must be one of \"default\", \"scale_shift\""},
      {"add_attention", "no", "add_attention is \"no\", must be true or false"},
      {"class_embed_type", "projection", "class_embed_type is \"projection\", must be one of"},
      {"num_class_embeds", 0, "num_class_embeds is 0, must be an integer from 1"},
      {"num_class_embeds", 20,
       "'class_embedding.weight' has shape [21, 32], the config asks for [20, 32]"},
      {"num_class_embeds", nullptr, "'class_embedding.weight' has no place"},
      {"num_train_timesteps", 0, "num_train_timesteps is 0, must be an integer from 1"}};
  for (const Row& row : table) {
    json config = good;
    config[row.field] = row.value;
    INFO(row.field << " " << row.value.dump());
    CHECK_THAT(error(config.dump()), contains(row.message));
  }

  CHECK_THAT(error("nonsense"), contains("config.json: not valid JSON"));
  CHECK_THAT(error(""), contains("config.json: not valid JSON"));
  CHECK_THAT(error("[1]"), contains("config.json: is [1], must be a JSON object"));
  CHECK_THAT(error(R"({"in_channels":1,"in_channels":3})"), contains("stands twice"));
}

TEST_CASE("a config takes the defaults of diffusers") {
  const auto config = nn::Unet2dConfig::parse("{}");
  CHECK(config.in_channels == 3);
  CHECK(config.block_out_channels == std::vector<std::int64_t>{224, 448, 672, 896});
  CHECK(config.time_embedding_dim == 896);
  CHECK(config.layers_per_block == 2);
  CHECK(config.attention_head_dim == 8);
  CHECK(config.norm_num_groups == 32);
  CHECK(config.mid_block);
  CHECK(config.flip_sin_to_cos);
  CHECK_FALSE(config.sample_size);
  CHECK(config.down_block_types[0] == nn::BlockKind::plain);
  CHECK(config.up_block_types[3] == nn::BlockKind::plain);
  const auto sized = nn::Unet2dConfig::parse(
      R"({"sample_size":[4,6],"block_out_channels":[32],"down_block_types":["UNetResDownBlock2D"],)"
      R"("up_block_types":["UNetResAttnUpBlock2D"],"attention_head_dim":null,"unknown":1})");
  CHECK(sized.sample_size == std::pair<std::int64_t, std::int64_t>(4, 6));
  CHECK(sized.time_embedding_dim == 128);
  CHECK(sized.up_block_types[0] == nn::BlockKind::attention);
  CHECK_FALSE(sized.attention_head_dim);
}
