#include "catch.hpp"

#include <diffusion/noise/noise.hpp>
#include <diffusion/noise/torch_cuda_noise.hpp>
#include <diffusion/samplers/ddpm.hpp>
#include <diffusion/sampling/sample.hpp>
#include <diffusion/schedule/noise_schedule.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <numbers>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

using namespace diffusion;
using nlohmann::json;

namespace {

static_assert(SequentialNoise<TorchCudaNoise> && !AddressedNoise<TorchCudaNoise>);

json read_json(const std::string& name) {
  std::ifstream file(std::string(DIFFUSION_GOLDEN_DIR) + "/" + name);
  if (!file) throw std::runtime_error("cannot open " + name);
  return json::parse(file);
}

template <class Scalar>
std::vector<Scalar> next(TorchCudaNoise& noise, std::size_t n) {
  std::vector<Scalar> values(n);
  noise.fill(std::span<Scalar>(values));
  return values;
}

/// The largest difference from a list of numbers that begins at element `first`.
template <class Scalar>
double worst(const json& expected, const std::vector<Scalar>& got, std::size_t first = 0) {
  REQUIRE(first + expected.size() <= got.size());
  double error = 0;
  for (std::size_t i = 0; i < expected.size(); ++i)
    error =
        std::max(error, std::abs(expected[i].get<double>() - static_cast<double>(got[first + i])));
  return error;
}

template <class Scalar>
void check_recorded(const json& row, double tolerance) {
  TorchCudaNoise noise(row.at("seed").get<std::uint64_t>());
  const std::size_t n = row.at("n").get<std::size_t>();
  const std::vector<Scalar> got = next<Scalar>(noise, n);
  CAPTURE(row.at("seed").dump(), n, row.at("dtype").dump());
  if (row.contains("values")) {
    CHECK(row.at("values").size() == n);
    CHECK(worst(row.at("values"), got) < tolerance);
  } else {
    CHECK(worst(row.at("first"), got) < tolerance);
    CHECK(worst(row.at("last"), got, n - row.at("last").size()) < tolerance);
    double sum = 0;
    for (const Scalar x : got) sum += static_cast<double>(x);
    CHECK(std::abs(sum - row.at("sum").get<double>()) / static_cast<double>(n) < tolerance / 100);
  }
  CHECK(worst(row.at("then_7"), next<Scalar>(noise, 7)) < tolerance);
}

/// A GPU thread's own generator: counts its counter up word by word, as cuRAND's state does.
class GpuThread {
 public:
  GpuThread(std::uint64_t seed, std::uint32_t thread, std::uint64_t calls_before)
      : seed_(seed), counter_{0, 0, thread, 0} {
    for (std::uint64_t i = 0; i < calls_before; ++i) count();
  }
  /// Four floats, in double precision.
  std::array<double, 4> floats() {
    const auto words = take();
    std::array<double, 4> normals{};
    for (std::size_t i = 0; i < 4; i += 2) {
      const double u = (words[i] + 0.5) / 4294967296.0;
      const double v = 2 * std::numbers::pi * (words[i + 1] + 0.5) / 4294967296.0;
      normals[i] = std::sqrt(-2 * std::log(u)) * std::sin(v);
      normals[i + 1] = std::sqrt(-2 * std::log(u)) * std::cos(v);
    }
    return normals;
  }
  /// Two doubles.
  std::array<double, 2> doubles() {
    const auto words = take();
    const auto uniform = [&](std::size_t i) {
      const std::uint64_t high = words[i + 1];
      return (static_cast<double>((high << 21) ^ words[i]) + 0.5) / 9007199254740992.0;
    };
    const double radius = std::sqrt(-2 * std::log(uniform(0)));
    const double angle = 2 * std::numbers::pi * uniform(2);
    return {radius * std::sin(angle), radius * std::cos(angle)};
  }

 private:
  std::array<std::uint32_t, 4> take() {
    const auto words = philox4x32_10(
        counter_, {static_cast<std::uint32_t>(seed_), static_cast<std::uint32_t>(seed_ >> 32)});
    count();
    return words;
  }
  void count() {
    if (++counter_[0] == 0) ++counter_[1];
  }
  std::uint64_t seed_;
  std::array<std::uint32_t, 4> counter_;
};

template <class F>
std::string error_of(const F& f) {
  try {
    f();
  } catch (const Error& error) {
    return error.what();
  }
  return "nothing was refused";
}

bool holds(const std::string& message, const std::vector<std::string>& parts) {
  INFO(message);
  const bool all = std::all_of(parts.begin(), parts.end(), [&](const std::string& part) {
    return message.find(part) != std::string::npos;
  });
  CHECK(all);
  return all;
}

}  // namespace

TEST_CASE("TorchCudaNoise is torch.randn on a GPU") {
  const json file = read_json("torch_cuda_randn.json");
  REQUIRE(file.at("cuda_randn").size() == 54);
  for (const json& row : file.at("cuda_randn"))
    if (row.at("dtype") == "float64")
      check_recorded<double>(row, 1e-12);
    else
      check_recorded<float>(row, 1e-5);
}

TEST_CASE("TorchCudaNoise agrees with the computation without a GPU") {
  const json file = read_json("torch_randn.json");
  for (const json& row : file.at("philox_cuda_randn").at("vectors")) {
    TorchCudaNoise noise(row.at("seed").get<std::uint64_t>(),
                         {.offset = row.at("offset").get<std::uint64_t>()});
    CHECK(worst(row.at("values"), next<float>(noise, row.at("n").get<std::size_t>())) < 1e-6);
  }
}

TEST_CASE("Each GPU thread has a generator of its own, and strides over the tensor") {
  // A GPU of 2 multiprocessors with 3 blocks of 256 threads each; 700 threads would be 2 blocks.
  const TorchCudaOptions options{.multiprocessors = 2, .threads_per_multiprocessor = 1000};
  const std::size_t most = 2 * 3 * 256;
  const std::uint64_t seed = 0x123456789ABCDEFu;
  TorchCudaNoise noise(seed, options);
  std::uint64_t calls = 0;  // that each thread has made
  for (const std::size_t n : {std::size_t{1}, std::size_t{256}, std::size_t{257}, most, most + 1,
                              2 * most, 4 * most, 4 * most + 1, 9 * most + 77}) {
    CAPTURE(n);
    const std::size_t threads = std::min(most, (n + 255) / 256 * 256);
    const std::vector<float> floats = next<float>(noise, n);
    const std::uint64_t float_calls = (n + 4 * threads - 1) / (4 * threads);
    const std::vector<double> doubles = next<double>(noise, n);
    double float_error = 0, double_error = 0;
    for (std::size_t thread = 0; thread < std::min(threads, n); ++thread) {
      GpuThread own(seed, static_cast<std::uint32_t>(thread), calls);
      for (std::size_t at = thread; at < n;)
        for (const double normal : own.floats()) {
          if (at < n)
            float_error = std::max(float_error, std::abs(normal - static_cast<double>(floats[at])));
          at += threads;
        }
      GpuThread later(seed, static_cast<std::uint32_t>(thread), calls + float_calls);
      for (std::size_t at = thread; at < n;)
        for (const double normal : later.doubles()) {
          if (at < n) double_error = std::max(double_error, std::abs(normal - doubles[at]));
          at += threads;
        }
    }
    CHECK(float_error < 5e-6);
    CHECK(double_error < 1e-13);
    calls += float_calls + (n + 2 * threads - 1) / (2 * threads);
    CHECK(noise.offset() == 4 * calls);
  }
}

TEST_CASE("The generator's offset is where a stream goes on, across the low word too") {
  TorchCudaNoise whole(7);
  next<float>(whole, 1000);
  TorchCudaNoise rest(7, {.offset = whole.offset()});
  CHECK(next<float>(whole, 100) == next<float>(rest, 100));

  const std::uint64_t offset = (std::uint64_t{1} << 34) - 4;  // counter 2^32 - 1
  TorchCudaNoise at_edge(7, {.offset = offset}), after(7, {.offset = offset + 4});
  next<float>(at_edge, 1);
  CHECK(next<double>(at_edge, 50) == next<double>(after, 50));
  CHECK(next<float>(at_edge, 50) != next<float>(whole, 50));
  next<float>(at_edge, 0);
  CHECK(at_edge.offset() == offset + 12);  // three tensors, and an empty one, which takes nothing
}

TEST_CASE("TorchCudaNoise is standard normal, and seeds differ in all 64 bits") {
  const std::size_t n = 400'000;
  TorchCudaNoise noise(11), other(11 + (std::uint64_t{1} << 32));
  const auto x = next<float>(noise, n), y = next<float>(other, n);
  double sum = 0, squares = 0, product = 0;
  for (std::size_t i = 0; i < n; ++i) {
    const double a = static_cast<double>(x[i]), b = static_cast<double>(y[i]);
    sum += a, squares += a * a, product += a * b;
  }
  const double count = static_cast<double>(n), deviation = 1 / std::sqrt(count);
  CHECK(std::abs(sum / count) < 4 * deviation);
  CHECK(std::abs(squares / count - 1) < 4 * std::numbers::sqrt2 * deviation);
  CHECK(std::abs(product / count) < 4 * deviation);
}

TEST_CASE("A run takes its tensors from TorchCudaNoise in order") {
  using State = Eigen::Tensor<float, 2, Eigen::RowMajor>;
  const DdpmSampler sampler{NoiseSchedule<>::linear(), {.steps = 3}};
  const auto network = [](const State& x, double, State& eps) { eps = 0.5F * x; };
  TorchCudaNoise noise(3), same(3);
  const State x = sample<State>(sampler, network, {2, 5}, noise);

  State by_hand(2, 5);
  const auto plan = sampler.plan();
  const auto draw = [&] { return next<float>(same, 10); };
  const auto initial = draw();
  std::copy(initial.begin(), initial.end(), by_hand.data());
  for (const Stage& row : plan.stages()) {
    const auto z = row.draws > 0 ? draw() : std::vector<float>(10);
    const double alpha = row.at.alpha, sigma = row.at.sigma;
    for (std::ptrdiff_t i = 0; i < 10; ++i) {
      const double value = static_cast<double>(by_hand.data()[i]), eps = 0.5 * value;
      const double x0 = (value - sigma * eps) / alpha;
      double result = row.x * value + row.x0 * x0 + row.eps * eps;
      if (row.noise[0].source >= 0)
        result += row.noise[0].weight * static_cast<double>(z[static_cast<std::size_t>(i)]);
      by_hand.data()[i] = static_cast<float>(result);
    }
  }
  for (std::ptrdiff_t i = 0; i < 10; ++i)
    CHECK(std::abs(x.data()[i] - by_hand.data()[i]) < 1e-4F * (1 + std::abs(x.data()[i])));
  CHECK(noise.offset() == same.offset());
}

TEST_CASE("TorchCudaNoise names what it refuses") {
  CHECK(holds(error_of([] { TorchCudaNoise(1, {.multiprocessors = 0}); }),
              {"multiprocessors is 0", "[1, 65536]"}));
  CHECK(holds(error_of([] { TorchCudaNoise(1, {.threads_per_multiprocessor = 255}); }),
              {"threads_per_multiprocessor is 255", "[256, 65536]"}));
  CHECK(
      holds(error_of([] { TorchCudaNoise(1, {.offset = 6}); }), {"offset is 6", "multiple of 4"}));
  const TorchCudaNoise noise(1);
  CHECK_NOTHROW(noise.require(1000, 268435456));
  CHECK(holds(error_of([&] { noise.require(1, 268435457); }), {"268435457", "268435456"}));
}
