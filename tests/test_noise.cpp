#include "catch.hpp"

#include <diffusion/noise/noise.hpp>
#include <diffusion/noise/philox.hpp>
#include <diffusion/noise/recorded.hpp>
#include <diffusion/noise/torch_cpu_noise.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <fstream>
#include <nlohmann/json.hpp>
#include <numbers>
#include <numeric>
#include <random>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

using namespace diffusion;
using nlohmann::json;

namespace {

using Words = std::array<std::uint32_t, 4>;
using Key = std::array<std::uint32_t, 2>;

static_assert(AddressedNoise<PhiloxNoise> && !SequentialNoise<PhiloxNoise>);
static_assert(SequentialNoise<TorchCpuNoise> && !AddressedNoise<TorchCpuNoise>);
static_assert(SequentialNoise<RecordedNoise> && NoiseSource<RecordedNoise>);
static_assert(!NoiseSource<std::mt19937>);
static_assert(philox4x32_10({0, 0, 0, 0}, {0, 0}) ==
              Words{0x6627E8D5u, 0xE169C58Du, 0xBC57AC4Cu, 0x9B00DBD8u});

json read_json(const std::string& path) {
  std::ifstream file(path);
  if (!file) throw std::runtime_error("cannot open " + path);
  return json::parse(file);
}

const json& golden() {
  static const json document = read_json(std::string(DIFFUSION_GOLDEN_DIR) + "/torch_randn.json");
  return document;
}

template <class Scalar = float>
std::vector<Scalar> normals(const PhiloxNoise& noise, std::uint64_t sample, std::uint64_t draw,
                            std::uint64_t element, std::size_t size) {
  std::vector<Scalar> out(size);
  noise.fill(sample, draw, element, std::span<Scalar>(out));
  return out;
}

/// The documented formula in double, from two words.
std::array<double, 2> box_muller_in_double(std::uint32_t radius_word, std::uint32_t angle_word) {
  const double exact = (std::floor(radius_word / 4.0) + 0.5) / std::pow(2.0, 30);
  const double u = static_cast<float>(exact);
  const double v = std::floor(angle_word / 256.0) / std::pow(2.0, 24);
  const double radius = std::sqrt(-2 * std::log(u));
  return {radius * std::cos(2 * std::numbers::pi * v), radius * std::sin(2 * std::numbers::pi * v)};
}

double normal_cdf(double x) { return 0.5 * std::erfc(-x / std::numbers::sqrt2); }

double central_moment(const std::vector<float>& x, double mean, int power) {
  double sum = 0;
  for (float value : x) sum += std::pow(value - mean, power);
  return sum / static_cast<double>(x.size());
}

/// Mean, variance, skewness and kurtosis within 4 standard deviations of a normal sample's. The
/// seeds are fixed, so this passes always or never.
void check_moments(const std::vector<float>& x) {
  const double n = static_cast<double>(x.size());
  double mean = 0;
  for (float value : x) mean += value / n;
  const double variance = central_moment(x, mean, 2);
  CHECK(std::abs(mean) < 4 / std::sqrt(n));
  CHECK(std::abs(variance - 1) < 4 * std::sqrt(2 / n));
  CHECK(std::abs(central_moment(x, mean, 3) / std::pow(variance, 1.5)) < 4 * std::sqrt(6 / n));
  CHECK(std::abs(central_moment(x, mean, 4) / (variance * variance) - 3) < 4 * std::sqrt(24 / n));
}

/// Kolmogorov-Smirnov: sqrt(n) D exceeds 1.95 with probability 0.001.
void check_distribution(std::vector<float> x) {
  std::sort(x.begin(), x.end());
  const double n = static_cast<double>(x.size());
  double distance = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double cdf = normal_cdf(x[i]);
    const double rank = static_cast<double>(i);
    distance = std::max({distance, cdf - rank / n, (rank + 1) / n - cdf});
  }
  CHECK(std::sqrt(n) * distance < 1.95);
}

double correlation(const std::vector<float>& a, const std::vector<float>& b, std::size_t lag = 0) {
  double ab = 0, aa = 0, bb = 0;
  for (std::size_t i = 0; i + lag < std::min(a.size(), b.size()); ++i) {
    const double x = a[i], y = b[i + lag];
    ab += x * y;
    aa += x * x;
    bb += y * y;
  }
  return ab / std::sqrt(aa * bb);
}

template <class Action>
std::string error_of(Action&& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

bool holds(const std::string& text, const std::vector<std::string>& parts) {
  return std::all_of(parts.begin(), parts.end(), [&](const std::string& part) {
    return text.find(part) != std::string::npos;
  });
}

/// The largest difference between what PyTorch's `function` gave, at `indices`, and what we give.
template <class Scalar>
double torch_error(TorchCpuNoise& noise, const std::string& function, std::size_t n,
                   const std::vector<std::size_t>& indices, const std::vector<double>& values) {
  std::vector<Scalar> got(n);
  if (function == "randn")
    noise.fill(std::span<Scalar>(got));
  else
    noise.fill_uniform(std::span<Scalar>(got));
  REQUIRE(indices.size() == values.size());
  double error = 0;
  for (std::size_t i = 0; i < values.size(); ++i)
    error = std::max(error, std::abs(static_cast<double>(got.at(indices[i])) - values[i]));
  return error;
}

void check_torch(TorchCpuNoise& noise, const std::string& function, std::size_t n,
                 const std::string& dtype, const std::vector<std::size_t>& indices,
                 const std::vector<double>& values) {
  CAPTURE(function, n, dtype);
  if (dtype == "float32")
    CHECK(torch_error<float>(noise, function, n, indices, values) < 2e-6);
  else
    CHECK(torch_error<double>(noise, function, n, indices, values) < 1e-12);
}

std::vector<std::size_t> range(std::size_t begin, std::size_t end) {
  std::vector<std::size_t> indices(end - begin);
  std::iota(indices.begin(), indices.end(), begin);
  return indices;
}

}  // namespace

TEST_CASE("Philox 4x32-10 gives the published known answers") {
  const json& block = golden().at("philox4x32_10_block");
  REQUIRE(block.at("vectors").size() == 3);
  for (const json& row : block.at("vectors"))
    CHECK(philox4x32_10(row.at("counter").get<Words>(), row.at("key").get<Key>()) ==
          row.at("output").get<Words>());
}

TEST_CASE("Philox's address layout is pinned") {
  const PhiloxNoise noise(0x0123456789ABCDEFu, 0xABCD00000003u);
  const std::vector<float> got = normals(noise, 4, 0x1200000005u, 32, 8);

  SECTION("by the counters and key that it stands for") {
    const Key key{0x89ABCDEFu, 0x01234567u};
    const Words first = philox4x32_10({8, 5, 7, 0x0012ABCDu}, key);
    const Words second = philox4x32_10({9, 5, 7, 0x0012ABCDu}, key);
    std::vector<double> expected;
    for (const Words& w : {first, second})
      for (std::size_t i : {0u, 2u})
        for (double normal : box_muller_in_double(w[i], w[i + 1])) expected.push_back(normal);
    for (std::size_t i = 0; i < 8; ++i) CHECK(got[i] == Approx(expected[i]).margin(1e-6));
  }
  SECTION("by values") {
    const std::array<double, 8> expected{
        -0.77839180, -0.24418813, -1.50301024, -1.00640822, 0.93293117, -0.57976057, 1.75559445,
        0.31500478};
    for (std::size_t i = 0; i < 8; ++i) CHECK(got[i] == Approx(expected[i]).margin(1e-6));
    const std::array<double, 8> plain{
        -0.97018980, 0.19401905, -1.23562015, 1.92392716, -0.07318148, 0.13913758, -1.10666495,
        0.32668338};
    const std::vector<float> start = normals(PhiloxNoise(42), 0, 0, 0, 8);
    for (std::size_t i = 0; i < 8; ++i) CHECK(start[i] == Approx(plain[i]).margin(1e-6));
  }
  SECTION("to the last element") {
    const std::uint64_t end = std::uint64_t{1} << 34;
    const std::vector<float> last = normals(PhiloxNoise(42), 0, 0, end - 16, 16);
    const Words w = philox4x32_10({0xFFFFFFFFu, 0, 0, 0}, {42, 0});
    CHECK(last[14] == Approx(box_muller_in_double(w[2], w[3])[0]).margin(1e-6));
  }
}

TEST_CASE("Philox normals agree with Box-Muller in double") {
  SECTION("on four million numbers: 1e-6, and 2e-6 where the radius exceeds 4") {
    double near = 0, far = 0;
    const Key key{7, 0};
    const std::vector<float> got = normals(PhiloxNoise(7), 3, 2, 0, 4'000'000);
    for (std::uint32_t block = 0; block < got.size() / 4; ++block) {
      const Words w = philox4x32_10({block, 2, 3, 0}, key);
      for (std::size_t i : {0u, 2u}) {
        const auto [x, y] = box_muller_in_double(w[i], w[i + 1]);
        double& worst = std::hypot(x, y) < 4 ? near : far;
        worst = std::max({worst, std::abs(x - got[4 * block + i]),
                          std::abs(y - got[4 * block + i + 1])});
      }
    }
    CHECK(near < 1e-6);
    CHECK(far < 2e-6);
    CHECK(far > 0);
  }
  SECTION("at the ends of both uniforms") {
    const std::array<std::uint32_t, 12> edges{
        0u,          1u,          2u,          0xFFu,       0x100u,      0x3FFFFFFFu,
        0x40000000u, 0x7FFFFFFFu, 0x80000000u, 0xBFFFFFFFu, 0xC0000000u, 0xFFFFFFFFu};
    double worst = 0, largest = 0;
    for (std::uint32_t radius : edges)
      for (std::uint32_t angle : edges) {
        float x = 0, y = 0;
        detail::box_muller(radius, angle, x, y);
        const auto [exact_x, exact_y] = box_muller_in_double(radius, angle);
        worst = std::max({worst, std::abs(x - exact_x), std::abs(y - exact_y)});
        largest = std::max(largest, std::hypot(exact_x, exact_y));
      }
    CHECK(worst < 2e-6);
    CHECK(largest == Approx(std::sqrt(62 * std::numbers::ln2)));  // u = 2^-31
    CHECK(largest > 6.55);
  }
  SECTION("the logarithm and the root over every magnitude of the uniform") {
    double log_error = 0, root_error = 0;
    for (int exponent = 0; exponent < 32; ++exponent)
      for (int i = 0; i < 4096; ++i) {
        const float u = std::ldexp(1.0f + static_cast<float>(i) / 4096, -exponent - 1);
        const double exact = -2 * std::log(static_cast<double>(u));
        const float x = detail::minus_two_log(u);
        log_error = std::max(log_error, std::abs(x / exact - 1));
        root_error = std::max(root_error,
                              std::abs(detail::square_root(x) / std::sqrt(double{x}) - 1));
      }
    CHECK(log_error < 3e-7);
    CHECK(root_error < 2e-7);
    CHECK(detail::minus_two_log(1.0f) == 0.0f);
    CHECK(detail::square_root(0.0f) == 0.0f);
  }
}

TEST_CASE("Philox normals do not depend on how they are asked for") {
  const PhiloxNoise noise(99, 5);
  const std::size_t size = 512;
  const std::vector<float> whole = normals(noise, 1, 2, 0, size);

  SECTION("any start that is a multiple of 16, any length") {
    std::size_t wrong = 0, calls = 0;
    for (std::size_t start = 0; start < 320; start += noise_block)
      for (std::size_t length = 0; length <= 130; ++length, ++calls) {
        const std::vector<float> part = normals(noise, 1, 2, start, length);
        const auto from = whole.begin() + static_cast<std::ptrdiff_t>(start);
        if (!std::equal(part.begin(), part.end(), from)) ++wrong;
      }
    CHECK(calls == 20 * 131);
    CHECK(wrong == 0);
  }
  SECTION("nothing is written past the end") {
    for (std::size_t length : {0u, 1u, 15u, 16u, 63u, 64u, 65u, 127u}) {
      std::vector<float> out(length + 4, -100.0f);
      noise.fill(1, 2, 0, std::span(out).first(length));
      CHECK(std::count(out.end() - 4, out.end(), -100.0f) == 4);
    }
  }
  SECTION("double is float widened") {
    const std::vector<double> wide = normals<double>(noise, 1, 2, 32, 200);
    CHECK(std::equal(wide.begin(), wide.end(), whole.begin() + 32));
  }
  SECTION("a part of a batch is the part of the whole") {
    CHECK(normals(PhiloxNoise(99), 6, 2, 0, size) == whole);
    CHECK(normals(PhiloxNoise(99, 6), 0, 2, 0, size) == whole);
  }
}

TEST_CASE("Philox normals differ by seed, sample and draw") {
  const std::size_t n = 200'000;
  const double limit = 4 / std::sqrt(static_cast<double>(n));
  const std::vector<float> base = normals(PhiloxNoise(1), 1, 1, 0, n);
  const std::uint64_t high = std::uint64_t{1} << 32;
  const std::vector<std::vector<float>> others{
      normals(PhiloxNoise(2), 1, 1, 0, n),        normals(PhiloxNoise(1 + high), 1, 1, 0, n),
      normals(PhiloxNoise(1), 2, 1, 0, n),        normals(PhiloxNoise(1), 1 + high, 1, 0, n),
      normals(PhiloxNoise(1), 1, 2, 0, n),        normals(PhiloxNoise(1), 1, 1 + high, 0, n),
      normals(PhiloxNoise(1), 1, 1, 1'000'000, n)};
  for (const std::vector<float>& other : others) CHECK(std::abs(correlation(base, other)) < limit);
  CHECK(PhiloxNoise(1) == PhiloxNoise(1, 0));
  CHECK_FALSE(PhiloxNoise(1) == PhiloxNoise(1, 2));
}

TEST_CASE("Philox normals are standard normal") {
  const std::size_t n = 1'000'000;
  const PhiloxNoise noise(2024);

  SECTION("along the elements") {
    const std::vector<float> x = normals(noise, 0, 1, 0, n);
    check_moments(x);
    check_distribution(x);
  }
  SECTION("along the samples, the draws and the seeds, 16 elements of each") {
    std::vector<float> samples(n), draws(n), seeds(n);
    for (std::size_t i = 0; i < n; i += 16) {
      noise.fill(i / 16, 1, 0, std::span(samples).subspan(i, 16));
      noise.fill(1, i / 16, 0, std::span(draws).subspan(i, 16));
      PhiloxNoise(i / 16).fill(0, 0, 0, std::span(seeds).subspan(i, 16));
    }
    for (const std::vector<float>& x : {samples, draws, seeds}) {
      check_moments(x);
      check_distribution(x);
      CHECK(std::abs(correlation(x, x, 16)) < 4 / std::sqrt(static_cast<double>(n)));
    }
  }
  SECTION("neighbours are independent, and so are their squares") {
    const std::vector<float> x = normals(noise, 7, 1, 0, n);
    std::vector<float> squares(n);
    std::transform(x.begin(), x.end(), squares.begin(),
                   [](float v) { return (v * v - 1) / std::numbers::sqrt2_v<float>; });
    for (std::size_t lag : {1u, 2u, 3u, 4u, 8u, 16u, 32u, 63u, 64u, 65u}) {
      CHECK(std::abs(correlation(x, x, lag)) < 4 / std::sqrt(static_cast<double>(n)));
      CHECK(std::abs(correlation(squares, squares, lag)) < 4 / std::sqrt(static_cast<double>(n)));
      CHECK(std::abs(correlation(x, squares, lag)) < 4 / std::sqrt(static_cast<double>(n)));
    }
  }
  SECTION("the tails hold what they should, within 4 standard deviations") {
    const std::size_t total = 8'000'000;
    const std::vector<float> x = normals(noise, 9, 1, 0, total);
    for (double bound : {2.0, 3.0, 4.0, 5.0})
      for (double side : {-1.0, 1.0}) {
        const double expected = static_cast<double>(total) * normal_cdf(-bound);
        const auto count = std::count_if(x.begin(), x.end(),
                                         [&](float v) { return side * v > bound; });
        CHECK(std::abs(static_cast<double>(count) - expected) < 4 * std::sqrt(expected));
      }
  }
}

TEST_CASE("Philox refuses addresses outside its layout") {
  const PhiloxNoise noise(1, 10);
  std::vector<float> out(32);
  const std::span<float> span(out);
  const std::uint64_t index_limit = std::uint64_t{1} << 48;
  const std::string limit = "281474976710656", elements = "17179869184";

  CHECK(holds(error_of([&] { noise.fill(0, 0, 8, span); }), {"element 8", "multiple of 16"}));
  CHECK(holds(error_of([&] { noise.fill(0, 0, 17179869184u - 16, span); }),
              {"17179869168", "32 elements", elements}));
  CHECK(holds(error_of([&] { noise.fill(0, 0, 17179869184u + 16, span.first(0)); }),
              {"17179869200", elements}));
  CHECK(holds(error_of([&] { noise.fill(0, index_limit, 0, span); }), {"draw is " + limit, limit}));
  CHECK(holds(error_of([&] { noise.fill(index_limit - 10, 0, 0, span); }),
              {"sample is 281474976710646", "first_sample 10", limit}));
  CHECK(holds(error_of([&] { noise.fill(~std::uint64_t{0}, 0, 0, span); }),
              {"18446744073709551615", limit}));
  CHECK(holds(error_of([&] { PhiloxNoise(1, index_limit); }), {"first_sample is " + limit, limit}));
  CHECK(holds(error_of([&] { noise.require(index_limit - 9, 1, 16); }),
              {"sample is 281474976710646", limit}));
  CHECK(holds(error_of([&] { noise.require(1, index_limit + 1, 16); }),
              {"draw is " + limit, "below " + limit}));
  CHECK(holds(error_of([&] { noise.require(1, 1, 17179869185u); }), {"17179869185", elements}));
  CHECK_NOTHROW(noise.require(index_limit - 10, index_limit, 17179869184u));
  CHECK_NOTHROW(noise.require(0, 0, 0));
  CHECK_NOTHROW(noise.fill(index_limit - 11, index_limit - 1, 17179869184u - 32, span));
  CHECK_NOTHROW(PhiloxNoise(~std::uint64_t{0}, index_limit - 1));
}

TEST_CASE("the Mersenne twister is the standard one, seeded as PyTorch seeds it") {
  std::mt19937 engine;
  engine.discard(9999);
  CHECK(engine() == 4123659995u);
  for (const json& row : golden().at("mt19937_raw_u32")) {
    const auto words = row.at("values").get<std::vector<std::uint32_t>>();
    std::vector<float> got(words.size());
    TorchCpuNoise(row.at("seed").get<std::uint64_t>()).fill_uniform(std::span(got));
    for (std::size_t i = 0; i < words.size(); ++i)
      CHECK(std::ldexp(got[i], 24) == static_cast<float>(words[i] % (1u << 24)));
  }
}

TEST_CASE("TorchCpuNoise is torch.randn") {
  SECTION("one call") {
    REQUIRE(golden().at("cpu").size() == 100);
    for (const json& row : golden().at("cpu")) {
      TorchCpuNoise noise(row.at("seed").get<std::uint64_t>());
      const std::size_t n = row.at("n").get<std::size_t>();
      std::vector<std::size_t> indices = range(0, n);
      std::vector<double> values;
      if (row.contains("values")) {
        values = row.at("values").get<std::vector<double>>();
      } else {
        indices = range(0, 20);
        for (std::size_t i : range(n - 20, n)) indices.push_back(i);
        values = row.at("first_20").get<std::vector<double>>();
        for (double value : row.at("last_20").get<std::vector<double>>()) values.push_back(value);
      }
      CAPTURE(row.at("seed").dump());
      check_torch(noise, row.at("function"), n, row.at("dtype"), indices, values);
    }
  }
  SECTION("sequences of calls") {
    REQUIRE(golden().at("cpu_sequences").size() == 28);
    for (const json& row : golden().at("cpu_sequences")) {
      TorchCpuNoise noise(row.at("seed").get<std::uint64_t>());
      for (std::size_t i = 0; i < row.at("calls").size(); ++i) {
        const json& call = row.at("calls")[i];
        const bool named = call.is_array();  // ["rand", 3]
        const std::size_t n = (named ? call[1] : call).get<std::size_t>();
        check_torch(noise, named ? call[0].get<std::string>() : "randn", n, row.at("dtype"),
                    range(0, n), row.at("values")[i].get<std::vector<double>>());
      }
    }
  }
  SECTION("a tensor of four dimensions") {
    for (const json& row : golden().at("cpu_generator_tensor")) {
      TorchCpuNoise noise(row.at("seed").get<std::uint64_t>());
      const auto values = row.at("values").get<std::vector<double>>();
      check_torch(noise, "randn", values.size(), row.at("dtype"), range(0, values.size()), values);
    }
  }
}

TEST_CASE("TorchCpuNoise at sizes 1 to 100, and float, double, randn and rand in turn") {
  const json document =
      read_json(std::string(DIFFUSION_TEST_DATA) + "/noise/torch_randn_sizes.json");
  REQUIRE(document.at("sizes").size() == 204);
  REQUIRE(document.at("sequences").size() == 26);
  for (const char* part : {"sizes", "sequences"})
    for (const json& row : document.at(part)) {
      CAPTURE(row.at("seed").dump());
      TorchCpuNoise noise(row.at("seed").get<std::uint64_t>());
      for (const json& call : row.at("calls"))
        check_torch(noise, call.at("function"), call.at("n"), call.at("dtype"),
                    call.at("indices").get<std::vector<std::size_t>>(),
                    call.at("values").get<std::vector<double>>());
    }
}

TEST_CASE("TorchCpuNoise is standard normal, copies keep their place, high seed bits are ignored") {
  TorchCpuNoise noise(3);
  std::vector<float> x(1'000'000);
  noise.fill(std::span(x));
  check_moments(x);
  check_distribution(x);

  std::vector<double> small(3), first(40), second(40);
  noise.fill(std::span(small));  // leaves a kept normal
  TorchCpuNoise copy = noise;
  noise.fill(std::span(small));
  noise.fill(std::span(first));
  copy.fill(std::span(small));
  copy.fill(std::span(second));
  CHECK(first == second);

  TorchCpuNoise(5).fill(std::span(first));
  TorchCpuNoise(5 + (std::uint64_t{1} << 32)).fill(std::span(second));
  CHECK(first == second);
  TorchCpuNoise(6).fill(std::span(second));
  CHECK(first != second);
}

TEST_CASE("RecordedNoise hands out its tensors in order and says what is missing") {
  RecordedNoise noise({{1, 2, 0.1}, {4, 5, 6}, {7, 8}});
  CHECK(noise.remaining() == 3);
  CHECK_NOTHROW(noise.require(2, 3));
  CHECK_NOTHROW(require_noise(noise, 0, 99));
  CHECK(holds(error_of([&] { require_noise(noise, 4, 3); }), {"takes 4", "only 3 of 3"}));
  CHECK(holds(error_of([&] { noise.require(3, 3); }), {"tensor 2", "holds 2", "takes 3"}));

  std::vector<float> floats(3);
  std::vector<double> doubles(3);
  noise.fill(std::span(floats));
  CHECK(floats == std::vector<float>{1, 2, 0.1f});
  noise.fill(std::span(doubles));
  CHECK(doubles == std::vector<double>{4, 5, 6});
  CHECK(holds(error_of([&] { noise.fill(std::span(floats)); }),
              {"tensor 2", "holds 2", "takes 3"}));
  CHECK(noise.remaining() == 1);
  noise.fill(std::span(floats).first(2));
  CHECK(floats == std::vector<float>{7, 8, 0.1f});
  CHECK(holds(error_of([&] { noise.fill(std::span(floats)); }), {"takes 1", "only 0 of 3"}));
  noise.rewind();
  CHECK(noise.remaining() == 3);

  TorchCpuNoise endless(1);
  CHECK_NOTHROW(require_noise(endless, 1'000'000, 1'000'000));
}
