#include "catch.hpp"

#include <diffusion/denoiser/denoiser.hpp>
#include <diffusion/noise/brownian_noise.hpp>
#include <diffusion/noise/philox.hpp>
#include <diffusion/noise/recorded.hpp>
#include <diffusion/samplers/ddim.hpp>
#include <diffusion/samplers/ddpm.hpp>
#include <diffusion/sampling/sample.hpp>
#include <diffusion/schedule/noise_schedule.hpp>
#include <diffusion/video/free_init.hpp>
#include <diffusion/video/free_noise.hpp>
#include <diffusion/video/noise_priors.hpp>
#include <diffusion/video/rollout.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <complex>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <numbers>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "support.hpp"

using namespace diffusion;

namespace {

using Clip = Eigen::Tensor<float, 5, Eigen::RowMajor>;     // batch, channel, frame, height, width
using Frames = Eigen::Tensor<float, 4, Eigen::RowMajor>;   // frame, channel, height, width
using Signal = Eigen::Tensor<double, 3, Eigen::RowMajor>;  // frame, height, width
using Wide = Eigen::Tensor<float, 3>;                      // column-major: frame, channel, batch

static_assert(AddressedNoise<FrameNoise<PhiloxNoise>>);
static_assert(AddressedNoise<FrameNoise<BrownianNoise>>);
static_assert(AddressedNoise<ClipPartNoise<PhiloxNoise>>);

constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();
constexpr double infinity = std::numeric_limits<double>::infinity();
const NoiseSchedule<> schedule = NoiseSchedule<>::linear();
const PhiloxNoise own{7}, other{8};

template <class Noise>
std::vector<float> numbers(const Noise& noise, std::uint64_t sample, std::uint64_t draw,
                           std::uint64_t element, std::size_t size) {
  std::vector<float> out(size);
  noise.fill(sample, draw, element, std::span<float>(out));
  return out;
}

/// The mean of a[i] b[i].
double moment(const std::vector<float>& a, const std::vector<float>& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i)
    sum += static_cast<double>(a[i]) * static_cast<double>(b[i]);
  return sum / static_cast<double>(a.size());
}

/// The noise of every frame of clip 0, all places one behind the other, frames within a sample.
template <class Noise>
std::vector<std::vector<float>> by_frame(const Noise& noise, const FrameLayout& at,
                                         std::uint64_t draw) {
  const auto all = numbers(noise, 0, draw, 0, at.outer * at.frames * at.inner);
  std::vector<std::vector<float>> frames(at.frames);
  for (std::size_t i = 0; i < all.size(); ++i) frames[i / at.inner % at.frames].push_back(all[i]);
  return frames;
}

struct Row {
  std::string what;
  std::function<void()> act;
  std::vector<std::string> says;  // each must stand in the message
};

void check_errors(const std::vector<Row>& table) {
  for (const Row& row : table) {
    INFO(row.what);
    std::string message;
    try {
      row.act();
    } catch (const Error& error) {
      message = error.what();
    }
    REQUIRE(!message.empty());
    for (const std::string& part : row.says) CHECK_THAT(message, contains(part));
  }
}

}  // namespace

TEST_CASE("the layout of frames follows the shape of a state") {
  const auto clip = FrameLayout::along<Clip>({2, 3, 5, 4, 6}, 2);
  CHECK((clip.frames == 5 && clip.inner == 24 && clip.outer == 3));
  const auto frames = FrameLayout::along<Frames>({6, 1, 4, 4}, 0);
  CHECK((frames.frames == 6 && frames.inner == 0));
  const auto unbatched = FrameLayout::along<Frames>({6, 1, 4, 4}, 0, false);
  CHECK((unbatched.frames == 6 && unbatched.inner == 16 && unbatched.outer == 1));
  const auto column = FrameLayout::along<Wide>({5, 2, 3}, 0);
  CHECK((column.frames == 5 && column.inner == 1 && column.outer == 2));
  CHECK(FrameLayout::along<Wide>({5, 2, 3}, 2).inner == 0);
}

TEST_CASE("a frame prior's numbers do not depend on how calls are split") {
  for (const std::uint64_t inner : {1u, 7u, 16u, 49u, 100u}) {
    const FrameLayout at{5, inner, 3};
    const auto sources = {mixed_noise(own, other, at, {.alpha = 1.3}),
                          progressive_noise(own, at, {.alpha = 2}),
                          free_noise(own, at, {.window = 3, .stride = 2})};
    for (const auto& noise : sources) {
      const std::size_t size = 15 * inner;
      const auto whole = numbers(noise, 1, 2, 0, size);
      for (const std::size_t piece : {16u, 48u, 112u})
        for (std::size_t begin = 0; begin < size; begin += piece) {
          const auto part = numbers(noise, 1, 2, begin, std::min(piece, size - begin));
          CHECK(std::equal(part.begin(), part.end(), whole.begin() + static_cast<long>(begin)));
        }
      std::vector<double> wide(size);
      noise.fill(1, 2, 0, std::span<double>(wide));
      CHECK(std::equal(wide.begin(), wide.end(), whole.begin(),
                       [](double a, float b) { return a == static_cast<double>(b); }));
    }
  }
}

TEST_CASE("frames that share nothing have the inner source's noise, bit for bit") {
  for (const FrameLayout at : {FrameLayout{4, 49, 2}, FrameLayout::samples(4)}) {
    const auto mixed = mixed_noise(own, other, at, {.alpha = 0});
    const auto progressive = progressive_noise(own, at, {.alpha = 0});
    for (std::uint64_t sample = 0; sample < 6; ++sample) {
      CHECK(numbers(mixed, sample, 3, 0, 392) == numbers(own, sample, 3, 0, 392));
      CHECK(numbers(progressive, sample, 3, 0, 392) == numbers(own, sample, 3, 0, 392));
    }
  }
}

TEST_CASE("mixed and progressive noise have the covariance of their formulas") {
  const FrameLayout at{6, 7, 1};
  for (const double alpha : {0.0, 0.5, 1.0, 2.0, 9.0}) {
    const double square = alpha * alpha / (1 + alpha * alpha), r = std::sqrt(square);
    const Eigen::MatrixXd mixed = mixed_noise(own, other, at, {.alpha = alpha}).covariance();
    const Eigen::MatrixXd progressive = progressive_noise(own, at, {.alpha = alpha}).covariance();
    for (int f = 0; f < 6; ++f)
      for (int g = 0; g < 6; ++g) {
        CHECK(mixed(f, g) == Approx(f == g ? 1 : square).margin(1e-14));
        CHECK(progressive(f, g) == Approx(std::pow(r, std::abs(f - g))).margin(1e-9));
      }
  }
}

TEST_CASE("measured over places, frame priors have the covariance that they say") {
  constexpr std::uint64_t places = 40000;
  Eigen::MatrixXd given(4, 4);
  given << 1, 0.5, -0.3, 0.1, 0.5, 1, 0.2, 0.4, -0.3, 0.2, 1, 0.6, 0.1, 0.4, 0.6, 1;
  const FrameLayout at{4, places / 2, 2};
  for (const auto& noise :
       {mixed_noise(own, other, at, {.alpha = 0.8}), progressive_noise(own, at, {.alpha = 2}),
        correlated_noise(own, at, given), free_noise(own, at, {.window = 3, .stride = 1})}) {
    const Eigen::MatrixXd wanted = noise.covariance();
    const auto frames = by_frame(noise, at, 0);
    for (std::size_t f = 0; f < 4; ++f)
      for (std::size_t g = 0; g <= f; ++g)  // 5 standard errors: at most 5 sqrt(2 / places)
        CHECK(moment(frames[f], frames[g]) ==
              Approx(wanted(static_cast<long>(f), static_cast<long>(g))).margin(0.036));
  }
  CHECK((correlated_noise(own, at, given).covariance() - given).cwiseAbs().maxCoeff() < 1e-12);
}

TEST_CASE("a covariance may be singular: one noise for all frames") {
  const FrameLayout at{5, 30, 1};
  const auto still = correlated_noise(own, at, Eigen::MatrixXd::Ones(5, 5));
  const auto frames = by_frame(still, at, 0);
  for (std::size_t f = 1; f < 5; ++f) CHECK(frames[f] == frames[0]);
  CHECK(frames[0] == numbers(own, 0, 0, 0, 30));
}

TEST_CASE("frames that are samples have the noise of frames within one, at the same places") {
  // One sample of 3 frames of 32 elements; or 3 samples. The inner addresses differ, the law not.
  const auto samples = FrameLayout::samples(3);
  const auto mixed = mixed_noise(own, other, samples, {.alpha = 2});
  const float shared = static_cast<float>(2 / std::sqrt(5.0));
  const float part = static_cast<float>(1 / std::sqrt(5.0));
  for (std::uint64_t sample = 0; sample < 9; ++sample) {
    const auto z = numbers(mixed, sample, 4, 32, 40);
    const auto mine = numbers(own, sample, 4, 32, 40), all = numbers(other, sample / 3, 4, 32, 40);
    for (std::size_t i = 0; i < z.size(); ++i)
      CHECK(static_cast<double>(z[i]) ==
            Approx(static_cast<double>(part * mine[i] + shared * all[i])).margin(1e-6));
  }
}

TEST_CASE("priors may shape the initial state alone") {
  const FrameLayout at{4, 20, 2};
  const auto noise = mixed_noise(own, other, at, {.alpha = 2, .draws = FrameDraws::initial});
  const auto always = mixed_noise(own, other, at, {.alpha = 2});
  CHECK(numbers(noise, 1, 0, 0, 160) == numbers(always, 1, 0, 0, 160));
  CHECK(numbers(noise, 1, 0, 0, 160) != numbers(own, 1, 0, 0, 160));
  for (const std::uint64_t draw : {1u, 5u})
    CHECK(numbers(noise, 1, draw, 16, 100) == numbers(own, 1, draw, 16, 100));
}

TEST_CASE("priors run through a plan, and wrap a Brownian path") {
  const DdpmSampler sampler{schedule, {.steps = 10}};
  const SamplingPlan plan = sampler.plan();
  const auto network = [](const Clip& x, double, Clip& out) { out = 0.5F * x; };
  const auto at = FrameLayout::along<Clip>({2, 1, 3, 5, 5}, 2);
  const auto noise = correlated_noise(BrownianNoise(3, plan), at, Eigen::MatrixXd::Ones(3, 3));
  const Clip clip = sample<Clip>(plan, network, {2, 1, 3, 5, 5}, noise);
  const Clip still =
      sample<Clip>(plan, network, {2, 1, 1, 5, 5}, ClipPartNoise(BrownianNoise(3, plan), at, 0, 1));
  for (int f = 0; f < 3; ++f)  // a network for each element: all frames are the first, alone
    for (int i = 0; i < 5; ++i) CHECK(clip(1, 0, f, i, 2) == still(1, 0, 0, i, 2));
}

TEST_CASE("the noise of a part of a clip is the clip's, at its frames") {
  for (const FrameLayout whole : {FrameLayout{7, 21, 2}, FrameLayout::samples(7)}) {
    const ClipPartNoise part(own, whole, 3, 2);
    const ClipPartNoise everything(own, whole, 0, 7);
    if (whole.inner == 0) {
      for (std::uint64_t f = 0; f < 4; ++f)  // the second clip's frames 3 and 4 come third
        CHECK(numbers(part, f, 1, 16, 50) == numbers(own, f / 2 * 7 + 3 + f % 2, 1, 16, 50));
      CHECK(numbers(everything, 9, 1, 16, 50) == numbers(own, 9, 1, 16, 50));
      continue;
    }
    const auto all = numbers(own, 1, 1, 0, 294), two = numbers(part, 1, 1, 0, 84);
    CHECK(numbers(everything, 1, 1, 0, 294) == all);
    for (std::size_t run = 0; run < 2; ++run)
      for (std::size_t f = 0; f < 2; ++f)
        for (std::size_t i = 0; i < 21; ++i)
          CHECK(two[(run * 2 + f) * 21 + i] == all[(run * 7 + 3 + f) * 21 + i]);
  }
}

TEST_CASE("free noise uses the first window again, shuffled") {
  for (const std::uint64_t frames : {16u, 17u, 40u, 63u}) {
    const FreeNoiseOptions options{.window = 16, .stride = 4, .seed = 5};
    const auto from = free_noise_frames(frames, options);
    REQUIRE(from.size() == frames);
    for (std::uint64_t begin = 0; begin + 16 <= frames; begin += 4) {
      const std::set<std::uint64_t> seen(from.begin() + static_cast<long>(begin),
                                         from.begin() + static_cast<long>(begin + 16));
      CHECK(seen.size() == 16);  // each frame of the first window once
      CHECK(*seen.rbegin() == 15);
    }
    for (std::uint64_t f = 0; f < 16; ++f) CHECK(from[f] == f);
    CHECK(free_noise_frames(frames, options) == from);
  }
  const auto one = free_noise_frames(64, {.window = 16, .stride = 8, .seed = 1});
  const auto two = free_noise_frames(64, {.window = 16, .stride = 8, .seed = 2});
  CHECK(one != two);
  CHECK(!std::equal(one.begin(), one.begin() + 16, one.begin() + 16));  // 1 in 8!^2 otherwise

  const FrameLayout at{40, 6, 2};
  const auto noise = free_noise(own, at, {.window = 16, .stride = 4, .seed = 5});
  const auto from = free_noise_frames(40, {.window = 16, .stride = 4, .seed = 5});
  const auto given = by_frame(own, at, 0), got = by_frame(noise, at, 0);
  for (std::size_t f = 0; f < 40; ++f) CHECK(got[f] == given[from[f]]);
}

TEST_CASE("free noise's shuffles are even") {
  std::array<std::array<int, 4>, 4> counts{};
  for (std::uint64_t seed = 0; seed < 4000; ++seed) {
    const auto from = free_noise_frames(8, {.window = 4, .stride = 4, .seed = seed});
    for (std::size_t i = 0; i < 4; ++i) ++counts[i][from[4 + i]];
  }
  for (const auto& row : counts)  // 1000 expected, standard deviation 27
    for (const int count : row) CHECK(std::abs(count - 1000) < 140);
}

TEST_CASE("the transform is the discrete Fourier transform") {
  support::Random random(4);
  std::vector<std::complex<double>> data(3 * 4 * 5);
  for (auto& value : data) value = {random.uniform(-1, 1), random.uniform(-1, 1)};
  auto found = data;
  detail::Fourier(3).lines(found, 20, false);
  detail::Fourier(4).lines(found, 5, false);
  detail::Fourier(5).lines(found, 1, false);
  double squares = 0, transformed = 0;
  for (int a = 0; a < 3; ++a)
    for (int b = 0; b < 4; ++b)
      for (int c = 0; c < 5; ++c) {
        std::complex<double> sum = 0;
        for (int i = 0; i < 3; ++i)
          for (int j = 0; j < 4; ++j)
            for (int k = 0; k < 5; ++k)
              sum += data[static_cast<std::size_t>(20 * i + 5 * j + k)] *
                     std::polar(1.0,
                                -2 * std::numbers::pi * (i * a / 3.0 + j * b / 4.0 + k * c / 5.0));
        const auto at = static_cast<std::size_t>(20 * a + 5 * b + c);
        CHECK(std::abs(found[at] - sum) < 1e-12);
        squares += std::norm(data[at]);
        transformed += std::norm(found[at]);
      }
  CHECK(transformed / 60 == Approx(squares).epsilon(1e-13));  // Parseval
  detail::Fourier(3).lines(found, 20, true);
  detail::Fourier(4).lines(found, 5, true);
  detail::Fourier(5).lines(found, 1, true);
  for (std::size_t i = 0; i < data.size(); ++i) CHECK(std::abs(found[i] - data[i]) < 1e-13);
}

TEST_CASE("mixing frequencies: everything, nothing, and each frequency by itself") {
  support::Random random(5);
  Signal low(6, 5, 8), high(6, 5, 8), out(6, 5, 8);
  for (int i = 0; i < 240; ++i) {
    low.data()[i] = random.uniform(-1, 1);
    high.data()[i] = random.uniform(-1, 1);
  }
  const std::vector<FilterAxis> axes{{0, 0.3}, {1, 0.4}, {2, 0.5}};
  const auto worst = [&](const Signal& a, const Signal& b) {
    const Eigen::Tensor<double, 0, Eigen::RowMajor> largest = (a - b).abs().maximum();
    return largest(0);
  };
  for (const FrequencyMix mix : {FrequencyMix::keep_variance, FrequencyMix::complement}) {
    mix_frequencies(low, high, out, axes, FrequencyFilter([](double) { return 1.0; }), mix);
    CHECK(worst(out, low) < 1e-14);
    mix_frequencies(low, high, out, axes, FrequencyFilter([](double) { return 0.0; }), mix);
    CHECK(worst(out, high) < 1e-14);
    mix_frequencies(low, high, out, {{0, infinity}, {2, infinity}}, FrequencyFilter::ideal(), mix);
    CHECK(worst(out, low) < 1e-14);
  }

  // A wave keeps its shape and is weighed by the filter's gain at its frequency.
  const auto wave = [&](int a, int b, int c) {
    Signal w(6, 5, 8);
    for (int i = 0; i < 6; ++i)
      for (int j = 0; j < 5; ++j)
        for (int k = 0; k < 8; ++k)
          w(i, j, k) =
              std::cos(2 * std::numbers::pi * (a * i / 6.0 + b * j / 5.0 + c * k / 8.0) + 0.3);
    return w;
  };
  const Signal zero = 0.0 * low;
  for (const auto& [a, b, c] : std::vector<std::array<int, 3>>{
           {0, 0, 0}, {1, 0, 0}, {0, 2, 1}, {3, 1, 4}, {5, 4, 7}, {2, 3, 2}}) {
    const double f = 2 * std::min(a, 6 - a) / 6.0, g = 2 * std::min(b, 5 - b) / 5.0,
                 h = 2 * std::min(c, 8 - c) / 8.0;
    const double d2 = f * f / 0.09 + g * g / 0.16 + h * h / 0.25;
    const Signal w = wave(a, b, c);
    for (const auto& [filter, gain] : std::vector<std::pair<FrequencyFilter, double>>{
             {FrequencyFilter::gaussian(), std::exp(-d2 / 2)},
             {FrequencyFilter::butterworth(2), 1 / (1 + d2 * d2)},
             {FrequencyFilter::ideal(), d2 <= 1 ? 1.0 : 0.0}}) {
      mix_frequencies(w, zero, out, axes, filter);
      CHECK(worst(out, gain * w) < 1e-13);
      mix_frequencies(zero, w, out, axes, filter);
      CHECK(worst(out, std::sqrt(1 - gain * gain) * w) < 1e-13);
      mix_frequencies(zero, w, out, axes, filter, FrequencyMix::complement);
      CHECK(worst(out, (1 - gain) * w) < 1e-13);
    }
  }
}

TEST_CASE("mixing keeps the variance of noise; the paper's weights lose what they say") {
  // The mean over unit impulses of the squared norm of what comes out is the variance exactly.
  constexpr int n = 4 * 3 * 6;
  const std::vector<FilterAxis> axes{{0, 0.4}, {1, 0.4}, {2, 0.4}};
  const auto variance = [&](FrequencyMix mix, bool into_low) {
    double sum = 0;
    for (int i = 0; i < n; ++i) {
      Signal unit(4, 3, 6), zero(4, 3, 6), out(4, 3, 6);
      unit.setZero();
      zero.setZero();
      unit.data()[i] = 1;
      mix_frequencies(into_low ? unit : zero, into_low ? zero : unit, out, axes,
                      FrequencyFilter::gaussian(), mix);
      for (int k = 0; k < n; ++k) sum += out.data()[k] * out.data()[k];
    }
    return sum / n;
  };
  double squares = 0, rest = 0;  // mean of h^2 and of (1 - h)^2 over all frequencies
  for (int a = 0; a < 4; ++a)
    for (int b = 0; b < 3; ++b)
      for (int c = 0; c < 6; ++c) {
        const double f = std::min(a, 4 - a) / 2.0, g = 2 * std::min(b, 3 - b) / 3.0,
                     e = std::min(c, 6 - c) / 3.0;
        const double h = std::exp(-(f * f + g * g + e * e) / 0.32);
        squares += h * h / n;
        rest += (1 - h) * (1 - h) / n;
      }
  const double low = variance(FrequencyMix::keep_variance, true);
  CHECK(low == Approx(squares).epsilon(1e-12));
  CHECK(low + variance(FrequencyMix::keep_variance, false) == Approx(1).epsilon(1e-12));
  CHECK(variance(FrequencyMix::complement, false) == Approx(rest).epsilon(1e-12));
  CHECK(squares + rest < 0.95);  // what the paper's form is left with
}

TEST_CASE("FreeInit of one run is a plain run; of two, the run by hand") {
  const DdpmSampler sampler{schedule, {.steps = 8}};
  const SamplingPlan plan = sampler.plan();
  const auto network = [](const Clip& x, double, Clip& out) {
    out = x;
    for (int i = 1; i < x.size(); ++i) out.data()[i] = 0.4F * x.data()[i] + 0.5F * x.data()[i - 1];
  };
  const ShapeOf<Clip> shape{2, 1, 4, 3, 3};
  FreeInitOptions init{.iterations = 1, .axes = {{2, 0.4}, {3, 0.4}, {4, 0.4}}};
  const Clip plain = sample<Clip>(plan, network, shape, own);
  CHECK(support::same_bits(sample_free_init<Clip>(sampler, network, shape, own, init), plain));

  init.iterations = 2;
  const Clip twice = sample_free_init<Clip>(plan, network, shape, own, init);
  const Knot start = plan[0].at;
  Clip z = plain, fresh = plain;
  for (std::uint64_t sample = 0; sample < 2; ++sample) {
    const auto eps = numbers(own, sample, 0, 0, 36);
    const auto eta = numbers(own, sample, static_cast<std::uint64_t>(plan.draws()) + 1, 0, 36);
    for (std::size_t i = 0; i < 36; ++i) {
      z.data()[sample * 36 + i] = static_cast<float>(start.alpha) * plain.data()[sample * 36 + i] +
                                  static_cast<float>(start.sigma) * eps[i];
      fresh.data()[sample * 36 + i] = eta[i];
    }
  }
  mix_frequencies(z, fresh, z, init.axes, init.filter);
  sample_in_place(plan, network, z, own);
  CHECK(support::relative_error(support::values_of(twice), support::values_of(z)) < 1e-5);

  // A filter that lets nothing through starts the second run from fresh noise.
  init.filter = FrequencyFilter([](double) { return 0.0; });
  const Clip again = sample_free_init<Clip>(plan, network, shape, own, init);
  sample_in_place(plan, network, fresh, own);
  CHECK(support::relative_error(support::values_of(again), support::values_of(fresh)) < 1e-5);
}

TEST_CASE("FreeInit takes noise in order, and stops where a run stops") {
  const DdimSampler sampler{schedule, {.steps = 3}};
  const auto network = [](const Clip& x, double, Clip& out) { out = 0.1F * x; };
  const FreeInitOptions init{.iterations = 3, .axes = {{2, 0.3}}};
  RecordedNoise three(
      {std::vector<double>(8, 0.5), std::vector<double>(8, 1), std::vector<double>(8, -1)});
  sample_free_init<Clip>(sampler, network, {1, 1, 2, 2, 2}, three, init);
  CHECK(three.remaining() == 0);
  RecordedNoise two({std::vector<double>(8, 0.5), std::vector<double>(8, 1)});
  CHECK_THROWS_WITH(sample_free_init<Clip>(sampler, network, {1, 1, 2, 2, 2}, two, init),
                    contains("3 noise tensors"));
  int calls = 0;
  sample_free_init<Clip>(sampler, network, {1, 1, 2, 2, 2}, own, init, {}, [&](const auto&) {
    return ++calls == 5 ? Verdict::cancel : Verdict::proceed;
  });
  CHECK(calls == 5);
}

TEST_CASE("what is wrong with noise for clips is said") {
  const FrameLayout at{4, 10, 1};
  const Eigen::MatrixXd identity = Eigen::MatrixXd::Identity(4, 4);
  const auto with = [&](int f, int g, double value) {
    Eigen::MatrixXd c = identity;
    c(f, g) = c(g, f) = value;
    return c;
  };
  Eigen::MatrixXd lopsided = identity;
  lopsided(0, 1) = 0.3;
  Eigen::MatrixXd contrary = with(0, 1, 0.9);
  contrary(0, 2) = contrary(2, 0) = 0.9;
  contrary(1, 2) = contrary(2, 1) = -0.9;
  const auto plan = DdimSampler{schedule, {.steps = 2}}.plan();
  const auto network = [](const Clip& x, double, Clip& out) { out = x; };
  const auto run = [&](const ShapeOf<Clip>& shape) {
    sample<Clip>(plan, network, shape, progressive_noise(own, at));
  };
  const auto init = [&](FreeInitOptions options) {
    sample_free_init<Clip>(plan, network, {1, 1, 4, 2, 2}, own, options);
  };
  check_errors({
      {"alpha", [&] { mixed_noise(own, other, at, {.alpha = -1}); }, {"alpha", "-1"}},
      {"NaN alpha", [&] { progressive_noise(own, at, {.alpha = not_a_number}); }, {"alpha", "nan"}},
      {"one source twice", [&] { mixed_noise(own, own, at); }, {"same source"}},
      {"no frames",
       [&] {
         progressive_noise(own, FrameLayout{0, 3, 1});
       },
       {"frames", "0"}},
      {"size", [&] { correlated_noise(own, at, Eigen::MatrixXd::Identity(3, 3)); }, {"3x3", "4"}},
      {"variance", [&] { correlated_noise(own, at, with(1, 1, 2)); }, {"frame 1", "2"}},
      {"NaN",
       [&] { correlated_noise(own, at, with(0, 2, not_a_number)); },
       {"frames 2 and 0", "nan"}},
      {"lopsided", [&] { correlated_noise(own, at, lopsided); }, {"frames 1 and 0", "0.3"}},
      {"impossible", [&] { correlated_noise(own, at, contrary); }, {"semidefinite"}},
      {"rows",
       [&] {
         FrameNoise<PhiloxNoise>(own, {}, at, {{{0, 1}}});
       },
       {"1", "4"}},
      {"weights",
       [&] {
         FrameNoise<PhiloxNoise>(own, {}, FrameLayout{1, 10, 1}, {{{0, 2}}});
       },
       {"frame 0", "4", "1"}},
      {"frame that is not there",
       [&] {
         FrameNoise<PhiloxNoise>(own, {}, FrameLayout{1, 10, 1}, {{{3, 1}}});
       },
       {"frame 3", "0 to 0"}},
      {"shared without a source",
       [&] {
         FrameNoise<PhiloxNoise>(own, {}, FrameLayout{1, 10, 1}, {{{0, 1, true}}});
       },
       {"row 0", "shared"}},
      {"element", [&] { numbers(progressive_noise(own, at), 0, 0, 8, 4); }, {"8", "16"}},
      {"another clip",
       [&] {
         run({1, 1, 4, 3, 3});
       },
       {"36 elements", "4 frames x 10"}},
      {"dimension",
       [] {
         FrameLayout::along<Clip>({1, 1, 4, 2, 2}, 5);
       },
       {"5", "0 to 4"}},
      {"window", [&] { free_noise(own, at, {.window = 5, .stride = 2}); }, {"window of 5", "4"}},
      {"stride", [&] { free_noise(own, at, {.window = 3, .stride = 4}); }, {"stride", "4", "3"}},
      {"stride 0", [&] { free_noise(own, at, {.window = 3, .stride = 0}); }, {"stride", "0"}},
      {"part", [&] { ClipPartNoise(own, at, 3, 2); }, {"frames 3 to 4", "4"}},
      {"iterations",
       [&] {
         init({.iterations = 0, .axes = {{2, 0.3}}});
       },
       {"iterations", "0"}},
      {"no axes", [&] { init({}); }, {"0 axes"}},
      {"axis",
       [&] {
         init({.axes = {{7, 0.3}}});
       },
       {"7", "0 to 4"}},
      {"twice",
       [&] {
         init({.axes = {{2, 0.3}, {2, 0.1}}});
       },
       {"dimension 2", "twice"}},
      {"limit",
       [&] {
         init({.axes = {{2, 0}}});
       },
       {"limit", "0"}},
      {"NaN limit",
       [&] {
         init({.axes = {{2, not_a_number}}});
       },
       {"limit", "nan"}},
      {"order", [] { FrequencyFilter::butterworth(0); }, {"order", "0"}},
      {"gain",
       [&] {
         init({.filter = FrequencyFilter([](double) { return 1.5; }), .axes = {{2, 0.3}}});
       },
       {"gain", "1.5"}},
  });
}
