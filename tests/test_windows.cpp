#include "catch.hpp"

#include <diffusion/denoiser/exact/exact_denoiser.hpp>
#include <diffusion/denoiser/exact/exact_vector_jacobian.hpp>
#include <diffusion/denoiser/exact/gaussian.hpp>
#include <diffusion/guidance/classifier_free.hpp>
#include <diffusion/noise/philox.hpp>
#include <diffusion/samplers/ddim.hpp>
#include <diffusion/samplers/ddpm.hpp>
#include <diffusion/samplers/dpm_solver.hpp>
#include <diffusion/samplers/euler.hpp>
#include <diffusion/samplers/heun.hpp>
#include <diffusion/samplers/lcm.hpp>
#include <diffusion/sampling/sample.hpp>
#include <diffusion/schedule/noise_schedule.hpp>
#include <diffusion/video/continuation.hpp>
#include <diffusion/video/rollout.hpp>
#include <diffusion/video/windows.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "support.hpp"

using namespace diffusion;

namespace {

using Image = Eigen::Tensor<float, 4, Eigen::RowMajor>;
using Column = Eigen::Tensor<double, 4>;                    // column-major: width, height, c, batch
using Signals = Eigen::Tensor<double, 2, Eigen::RowMajor>;  // batch, frame

constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();
const NoiseSchedule<> schedule = NoiseSchedule<>::linear();
const PhiloxNoise noise{3};

/// A network that looks at each element alone.
struct Local {
  template <class T>
  void operator()(const T& x, double t, T& out) const {
    using S = typename T::Scalar;
    for (Eigen::Index i = 0; i < x.size(); ++i)
      out.data()[i] = static_cast<S>(0.3 * static_cast<double>(x.data()[i]) -
                                     0.1 * std::sin(static_cast<double>(x.data()[i]) + t));
  }
};

/// Frames of variance 1 and correlation r^|f - g|.
Eigen::MatrixXd chain(Eigen::Index frames, double r) {
  Eigen::MatrixXd covariance(frames, frames);
  for (Eigen::Index f = 0; f < frames; ++f)
    for (Eigen::Index g = 0; g < frames; ++g)
      covariance(f, g) = std::pow(r, std::abs(static_cast<double>(f - g)));
  return covariance;
}
Gaussian chain_data(Eigen::Index frames, double r) {
  return Gaussian(Eigen::VectorXd::Zero(frames), chain(frames, r));
}

/// The covariance that a deterministic linear run gives: its matrix is what it makes of unit
/// states.
template <class D>
Eigen::MatrixXd covariance_of(const SamplingPlan& plan, D&& denoiser, Eigen::Index frames) {
  Signals x(frames, frames);
  x.setZero();
  for (Eigen::Index i = 0; i < frames; ++i) x(i, i) = plan.traits().initial_scale;
  sample_in_place(plan, denoiser, x, noise);
  const Eigen::Map<const Eigen::Matrix<double, -1, -1, Eigen::RowMajor>> A(x.data(), frames,
                                                                           frames);
  return A.transpose() * A;
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

TEST_CASE("where windows begin") {
  using Starts = std::vector<Eigen::Index>;
  CHECK(window_starts({.size = 4, .stride = 2}, 10) == Starts{0, 2, 4, 6});
  CHECK(window_starts({.size = 4, .stride = 4}, 10) == Starts{0, 4, 6});
  CHECK(window_starts({.size = 4, .stride = 3}, 4) == Starts{0});
  CHECK(window_starts({.size = 4, .stride = 3}, 10, 2) == Starts{0, 2, 5, 6});
  CHECK(window_starts({.size = 4, .stride = 3, .wrap = true}, 10) == Starts{0, 3, 6, 9});
  CHECK(window_starts({.size = 4, .stride = 3, .wrap = true}, 10, 2) == Starts{2, 5, 8, 1});
  CHECK(window_starts({.size = 4, .starts = {6, 0, 3}}, 10) == Starts{6, 0, 3});
}

TEST_CASE("weights of windows are positive, even and what they say") {
  for (const auto blend :
       {WindowBlend::uniform, WindowBlend::triangular, WindowBlend::gaussian, WindowBlend::ramp})
    for (const Eigen::Index size : {1, 2, 5, 8}) {
      const auto w = window_weights({.size = size, .stride = (size + 1) / 2, .blend = blend});
      for (std::size_t i = 0; i < w.size(); ++i) {
        CHECK(w[i] > 0);
        CHECK(w[i] == Approx(w[w.size() - 1 - i]).epsilon(1e-14));
      }
    }
  CHECK(window_weights({.size = 5, .stride = 2, .blend = WindowBlend::triangular}) ==
        std::vector<double>{1, 2, 3, 2, 1});
  CHECK(window_weights({.size = 6, .stride = 4, .blend = WindowBlend::ramp}) ==
        std::vector<double>{0.25, 0.75, 1, 1, 0.75, 0.25});
  const auto bell =
      window_weights({.size = 4, .stride = 2, .blend = WindowBlend::gaussian, .deviation = 0.25});
  CHECK(bell[0] == Approx(std::exp(-1.5 * 1.5 / 2)));
  CHECK(bell[1] == Approx(std::exp(-0.5 * 0.5 / 2)));
}

TEST_CASE("a network that looks at elements alone does not notice windows, bit for bit") {
  const ShapeOf<Image> shape{2, 3, 9, 14};
  const auto plans = {
      DdimSampler{schedule, {.steps = 4}}.plan(), DdpmSampler{schedule, {.steps = 4}}.plan(),
      DpmSolverSampler{schedule, {.steps = 4}}.plan(), HeunSampler{schedule, {.steps = 3}}.plan()};
  std::vector<WindowOptions> windows;
  for (const auto blend :
       {WindowBlend::uniform, WindowBlend::triangular, WindowBlend::gaussian, WindowBlend::ramp})
    windows.push_back({{{.dimension = 3, .size = 6, .stride = 4, .blend = blend}}});
  windows.push_back({{{.dimension = 2, .size = 4, .stride = 3, .jitter = true},
                      {.dimension = 3, .size = 5, .stride = 2, .wrap = true, .jitter = true}},
                     3,
                     9});
  windows.push_back(
      {{{.dimension = 0, .size = 1, .stride = 1}, {.dimension = 1, .size = 2, .stride = 1}}, 1});
  for (const SamplingPlan& plan : plans) {
    const Image whole = sample<Image>(plan, Local{}, shape, noise);
    for (const WindowOptions& options : windows)
      CHECK(support::same_bits(
          sample<Image>(plan, WindowedDenoiser{Local{}, options}, shape, noise), whole));
    const SampleOptions one{.batch = false};
    CHECK(support::same_bits(
        sample<Image>(plan, WindowedDenoiser{Local{}, windows[0]}, shape, noise, one),
        sample<Image>(plan, Local{}, shape, noise, one)));
  }
}

TEST_CASE("windows go along the dimensions of the state's own type") {
  const auto plan = DdimSampler{schedule, {.steps = 3}}.plan();
  const ShapeOf<Column> shape{10, 4, 2, 3};
  Eigen::Index widest = 0;
  const auto network = [&](const Column& x, double t, Column& out) {
    widest = std::max(widest, x.dimension(0));
    CHECK((x.dimension(1) == 4 && x.dimension(2) == 2 && x.dimension(3) == 3 * 3));
    Local{}(x, t, out);
  };
  WindowedDenoiser wide{network, {{{.dimension = 0, .size = 6, .stride = 2}}}};
  CHECK(support::same_bits(sample<Column>(plan, wide, shape, noise),
                           sample<Column>(plan, Local{}, shape, noise)));
  CHECK(widest == 6);

  std::vector<float> memory(2 * 12), plain(2 * 12);
  using View = StateView<float, 2>;
  const auto raw = [](View x, double, Eigen::Tensor<float, 2, Eigen::RowMajor>& out) {
    for (Eigen::Index i = 0; i < x.size(); ++i) out.data()[i] = 0.2F * x[i];
  };
  for (std::size_t i = 0; i < memory.size(); ++i)
    memory[i] = plain[i] = 0.1F * static_cast<float>(i);
  WindowedDenoiser viewed{raw, {{{.dimension = 1, .size = 5, .stride = 3}}}};
  sample_in_place(plan, viewed, View(memory.data(), {2, 12}), noise);
  sample_in_place(plan, raw, View(plain.data(), {2, 12}), noise);
  CHECK(memory == plain);
}

TEST_CASE("where windows disagree the answer is their weighted mean") {
  // A network that answers the number of the first element that it sees, plus the row.
  const auto first = [](const Signals& x, double, Signals& out) {
    for (Eigen::Index i = 0; i < x.dimension(0); ++i)
      for (Eigen::Index k = 0; k < x.dimension(1); ++k) out(i, k) = x(i, 0) + 0.01 * double(k);
  };
  Signals x(2, 11), out(2, 11);
  for (int i = 0; i < 22; ++i) x.data()[i] = i * i;
  for (const bool wrap : {false, true})
    for (const std::size_t together : {0u, 1u, 2u}) {
      const WindowAxis axis{.dimension = 1, .size = 5, .stride = 3, .wrap = wrap};
      WindowedDenoiser windowed{first, {{axis}, together}};
      windowed(x, Query{.samples = 2}, out);
      const auto weights = window_weights(axis);
      for (int i = 0; i < 2; ++i) {
        std::vector<double> sum(11), weight(11);
        for (const Eigen::Index start : window_starts(axis, 11))
          for (Eigen::Index k = 0; k < 5; ++k) {
            const auto at = static_cast<std::size_t>((start + k) % 11);
            const double w = weights[static_cast<std::size_t>(k)];
            sum[at] += w * (x(i, start) + 0.01 * static_cast<double>(k));
            weight[at] += w;
          }
        for (std::size_t at = 0; at < 11; ++at)
          CHECK(out(i, static_cast<Eigen::Index>(at)) ==
                Approx(sum[at] / weight[at]).epsilon(1e-13));
      }
    }
}

TEST_CASE("windows in two dimensions blend by the product of the weights") {
  using Plane = Eigen::Tensor<double, 3, Eigen::RowMajor>;
  const auto mean = [](const Plane& x, double, Plane& out) {
    for (Eigen::Index b = 0; b < x.dimension(0); ++b) {
      double sum = 0;
      for (Eigen::Index k = 0; k < 12; ++k) sum += x.data()[b * 12 + k];
      std::fill_n(out.data() + b * 12, 12, sum);
    }
  };
  support::Random random(2);
  Plane x(2, 7, 9), out(2, 7, 9);
  for (int i = 0; i < x.size(); ++i) x.data()[i] = random.uniform(-1, 1);
  const WindowAxis down{.dimension = 1, .size = 3, .stride = 2};
  const WindowAxis across{.dimension = 2, .size = 4, .stride = 3, .blend = WindowBlend::gaussian};
  WindowedDenoiser windowed{mean, {{down, across}}};
  windowed(x, Query{.samples = 2}, out);
  const auto u = window_weights(down), v = window_weights(across);
  for (int b = 0; b < 2; ++b)
    for (Eigen::Index i = 0; i < 7; ++i)
      for (Eigen::Index j = 0; j < 9; ++j) {
        double sum = 0, weight = 0;
        for (const Eigen::Index r : window_starts(down, 7))
          for (const Eigen::Index c : window_starts(across, 9)) {
            if (i < r || i >= r + 3 || j < c || j >= c + 4) continue;
            double answer = 0;
            for (Eigen::Index k = 0; k < 12; ++k) answer += x(b, r + k / 4, c + k % 4);
            const double w =
                u[static_cast<std::size_t>(i - r)] * v[static_cast<std::size_t>(j - c)];
            sum += w * answer;
            weight += w;
          }
        CHECK(out(b, i, j) == Approx(sum / weight).epsilon(1e-12).margin(1e-13));
      }
}

TEST_CASE("a learned variance is blended with the prediction") {
  struct Doubled {
    void operator()(const Image& x, double, Image& out) const {
      CHECK(out.dimension(1) == 2 * x.dimension(1));
      for (Eigen::Index b = 0; b < x.dimension(0); ++b)
        for (Eigen::Index c = 0; c < out.dimension(1); ++c)
          for (Eigen::Index h = 0; h < x.dimension(2); ++h)
            for (Eigen::Index w = 0; w < x.dimension(3); ++w)
              out(b, c, h, w) = x(b, c % x.dimension(1), h, w) + static_cast<float>(c);
    }
  };
  Image x(2, 3, 4, 8), out(2, 6, 4, 8), whole(2, 6, 4, 8);
  for (int i = 0; i < x.size(); ++i) x.data()[i] = static_cast<float>(i);
  WindowedDenoiser windowed{Doubled{}, {{{.dimension = 3, .size = 3, .stride = 2}}}};
  windowed(x, Query{.samples = 2}, out);
  Doubled{}(x, 0, whole);
  CHECK(support::same_bits(out, whole));
}

TEST_CASE("slices keep their times in windows") {
  std::vector<std::vector<double>> told;
  const auto network = [&](const Signals& x, const Query& query, Signals& out) {
    told.emplace_back(query.times.begin(), query.times.end());
    CHECK(query.levels.size() == query.times.size());
    for (std::size_t i = 0; i < query.times.size(); ++i) CHECK(query.levels[i].t == query.times[i]);
    CHECK(query.samples == static_cast<std::size_t>(x.dimension(0)));
    out = x;
  };
  Signals x(2, 5), out(2, 5);
  x.setZero();
  const auto ask_with = [&](const WindowOptions& options, std::vector<double> times) {
    told.clear();
    std::vector<Knot> levels;
    for (const double t : times) levels.push_back({t, 1, 0});
    WindowedDenoiser windowed{network, options};
    windowed(x, Query{.times = times, .levels = levels, .samples = 2}, out);
  };
  using Told = std::vector<std::vector<double>>;
  ask_with({{{.dimension = 1, .size = 3, .stride = 2}}}, {7, 8});  // a time for each sample
  CHECK(told == Told{{7, 8, 7, 8}});
  ask_with({{{.dimension = 1, .size = 3, .stride = 2}}, 1}, {0, 1, 2, 3, 4, 10, 11, 12, 13, 14});
  CHECK(told == Told{{0, 1, 2, 10, 11, 12}, {2, 3, 4, 12, 13, 14}});
  ask_with({{{.dimension = 0, .size = 1, .stride = 1}}, 1}, {7, 8});  // frames that are samples
  CHECK(told == Told{{7}, {8}});
  CHECK_THROWS_WITH(ask_with({{{.dimension = 1, .size = 3, .stride = 2}}}, {1, 2, 3}),
                    contains("3 slices"));
}

TEST_CASE("jittered windows lie elsewhere at each step and alike within one") {
  std::vector<std::vector<double>> seen(6);
  Signals x(1, 20), out(1, 20);
  for (int i = 0; i < 20; ++i) x(0, i) = i;
  int step = 0;
  const auto network = [&](const Signals& w, double, Signals& answer) {
    for (Eigen::Index k = 0; k < w.dimension(0); ++k)
      seen[static_cast<std::size_t>(step)].push_back(w(k, 0));
    answer = w;
  };
  WindowedDenoiser windowed{network, {{{.dimension = 1, .size = 8, .stride = 6, .jitter = true}}}};
  for (step = 0; step < 6; ++step) {
    windowed(x, Query{.step = step, .samples = 1}, out);
    const auto once = seen[static_cast<std::size_t>(step)];
    windowed(x, Query{.stage = 9, .step = step, .samples = 1}, out);
    CHECK(seen[static_cast<std::size_t>(step)].size() == 2 * once.size());
    CHECK(std::equal(
        once.begin(), once.end(),
        seen[static_cast<std::size_t>(step)].begin() + static_cast<std::ptrdiff_t>(once.size())));
  }
  int moved = 0;
  for (std::size_t k = 1; k < 6; ++k) moved += seen[k] != seen[k - 1];
  CHECK(moved >= 3);  // 5 expected of 5, 1 in 6 are alike by chance
}

TEST_CASE("conditions: one a sample outside of windows, one a window inside") {
  const auto network = [](const Signals& x, double, const Conditions<double>& c, Signals& out) {
    REQUIRE(c.size() == static_cast<std::size_t>(x.dimension(0)));
    for (Eigen::Index i = 0; i < x.dimension(0); ++i)
      for (Eigen::Index k = 0; k < x.dimension(1); ++k)
        out(i, k) = 0.2 * x(i, k) + c[static_cast<std::size_t>(i)];
  };
  const auto plan = DdimSampler{schedule, {.steps = 3}}.plan();
  const WindowOptions windows{{{.dimension = 1, .size = 4, .stride = 2}}};
  for (const auto calls : {GuidanceCalls::joined, GuidanceCalls::separate}) {
    const GuidanceOptions options{.scale = 3, .calls = calls};
    ClassifierFreeGuidance guided{network, std::vector<double>{0.5, -1}, 0.0, options};
    ClassifierFreeGuidance wide{WindowedDenoiser{network, windows}, std::vector<double>{0.5, -1},
                                0.0, options};
    CHECK(support::same_bits(sample<Signals>(plan, wide, {2, 8}, noise),
                             sample<Signals>(plan, guided, {2, 8}, noise)));

    // Three windows of two samples: six conditions, the same in all windows; then others.
    const auto inside = [&](std::vector<double> conditions) {
      return WindowedDenoiser{ClassifierFreeGuidance{network, std::move(conditions), 0.0, options},
                              windows};
    };
    CHECK(support::same_bits(
        sample<Signals>(plan, inside({0.5, -1, 0.5, -1, 0.5, -1}), {2, 8}, noise),
        sample<Signals>(plan, guided, {2, 8}, noise)));
    Signals x(2, 8), out(2, 8);
    x.setZero();
    auto each = inside({1, 2, 3, 4, 5, 6});
    each(x, Query{.samples = 2}, out);
    CHECK((out(0, 0) == Approx(3) && out(1, 0) == Approx(6)));    // window 0
    CHECK((out(0, 7) == Approx(15) && out(1, 7) == Approx(18)));  // window 2
    CHECK(out(0, 2) == Approx(3 * (1 * 2 + 3 * 1) / 3.0));        // triangular: 2 and 1
  }
  const WindowOptions along_batch{{{.dimension = 0, .size = 1, .stride = 1}}, 1};
  ClassifierFreeGuidance wrong{WindowedDenoiser{network, along_batch}, std::vector<double>{0.5, -1},
                               0.0, GuidanceOptions{.scale = 3}};
  CHECK_THROWS_WITH(sample<Signals>(plan, wrong, {2, 8}, noise), contains("the batch"));
}

TEST_CASE("a chain of frames: the seam's error falls with the overlap") {
  // AR(1) frames, r = 0.9, 32 of them by windows of 8; each window has the exact denoiser. Without
  // overlap neighbours across a seam are independent: their correlation is off by all of 0.9.
  const auto plan = DdimSampler{schedule, {.steps = 50}}.plan();
  const auto network = exact_denoiser(chain_data(8, 0.9));
  const auto error_at = [&](Eigen::Index stride, WindowBlend blend) {
    const Eigen::MatrixXd c = covariance_of(
        plan,
        WindowedDenoiser{network,
                         {{{.dimension = 1, .size = 8, .stride = stride, .blend = blend}}}},
        32);
    double worst = 0;
    for (Eigen::Index f = 0; f + 1 < 32; ++f)
      worst = std::max(worst, std::abs(c(f, f + 1) / std::sqrt(c(f, f) * c(f + 1, f + 1)) - 0.9));
    return worst;
  };
  const auto gaussian = WindowBlend::gaussian, uniform = WindowBlend::uniform;
  CHECK(error_at(8, uniform) == Approx(0.9).margin(1e-12));
  // Measured: strides 7, 6, 5, 1 give 0.151, 0.061, 0.040, 0.029 with gaussian weights; 50 steps of
  // DDIM on the whole clip are off by less than 0.01.
  CHECK(error_at(7, gaussian) < 0.16);
  CHECK(error_at(6, gaussian) < 0.07);
  CHECK(error_at(5, gaussian) < 0.05);
  CHECK(error_at(1, gaussian) < 0.035);
  // Where windows end just where the next but one begins, plain means leave a seam: 0.265 against
  // 0.111 with less overlap. Weights that fall towards the ends mend it: 0.052.
  CHECK(error_at(4, uniform) > error_at(6, uniform) + 0.1);
  CHECK(error_at(4, gaussian) < 0.06);
  const Eigen::MatrixXd whole = covariance_of(plan, exact_denoiser(chain_data(32, 0.9)), 32);
  for (Eigen::Index f = 0; f + 1 < 32; ++f)
    CHECK(whole(f, f + 1) / std::sqrt(whole(f, f) * whole(f + 1, f + 1)) ==
          Approx(0.9).margin(0.01));
}

TEST_CASE("windows and guided continuation give the same in every prediction type and sampler") {
  const auto plans = {DdimSampler{schedule, {.steps = 10}}.plan(),
                      EulerAncestralSampler{schedule, {.steps = 10}}.plan(),
                      DpmSolverSampler{schedule, {.steps = 10}}.plan(),
                      HeunSampler{schedule, {.steps = 10}}.plan(),
                      LcmSampler{schedule, {.steps = 4}}.plan()};
  const Signals context = Signals(1, 2).setConstant(0.7);
  const Signals known = with_frames_after(context, 6, 1);
  const Signals mask = first_frames_mask<Signals>({20, 6}, 1, 2);
  for (const SamplingPlan& plan : plans) {
    Signals wide[3], next[3];
    std::size_t k = 0;
    for (const PredictionType type :
         {PredictionType::epsilon, PredictionType::v, PredictionType::flow}) {
      const auto network = exact_denoiser(chain_data(6, 0.9), type);
      wide[k] = sample<Signals>(
          plan, WindowedDenoiser{network, {{{.dimension = 1, .size = 6, .stride = 4}}}}, {20, 14},
          noise);
      ReconstructionGuidance guided{network, exact_vector_jacobian(network), known, mask,
                                    ReconstructionOptions{.weight = 2}};
      next[k] = sample<Signals>(plan, guided, {20, 6}, noise, {},
                                continue_by_replacement(context, 6, 1, PhiloxNoise{4}));
      for (int i = 0; i < 20; ++i) CHECK(next[k](i, 1) == Approx(0.7).margin(1e-10));
      ++k;
    }
    for (std::size_t j = 1; j < 3; ++j) {
      CHECK(support::relative_error(support::values_of(wide[j]), support::values_of(wide[0])) <
            1e-7);
      CHECK(support::relative_error(support::values_of(next[j]), support::values_of(next[0])) <
            1e-7);
    }
  }
}

TEST_CASE("continuing a chain of frames: replacement is biased, reconstruction guidance less") {
  // AR(1) frames, r = 0.9; three are known, the last 1.5. Frame k after them is N(r^k 1.5, 1 -
  // r^2k). Replacement, which shows the network the known frames noised, gets means of 0.646 for
  // 1.350 and variances of 0.420 for 0.190: it half forgets what it should continue.
  constexpr int frames = 8, known = 3, samples = 3000;
  const double r = 0.9, last = 1.5;
  const auto network = exact_denoiser(chain_data(frames, r));
  const auto vjp = exact_vector_jacobian(network);
  Signals context(1, known);
  context.setValues({{0.9, 1.2, last}});
  const Signals picture = with_frames_after(context, frames, 1);
  const Signals mask = first_frames_mask<Signals>({samples, frames}, 1, known);
  const auto plan = DdimSampler{schedule, {.steps = 60}}.plan();
  struct Error {
    double mean, variance;
  };
  const auto first_frame = [&](auto&& denoiser) {
    const Signals x = sample<Signals>(plan, denoiser, {samples, frames}, noise, {},
                                      continue_by_replacement(context, frames, 1, PhiloxNoise{77}));
    Error moments{0, 0};
    for (int i = 0; i < samples; ++i) {
      for (int f = 0; f < known; ++f) CHECK(x(i, f) == Approx(context(0, f)).margin(1e-12));
      moments.mean += x(i, known) / samples;
    }
    for (int i = 0; i < samples; ++i)
      moments.variance += std::pow(x(i, known) - moments.mean, 2) / samples;
    return Error{std::abs(moments.mean - last * r), std::abs(moments.variance - (1 - r * r))};
  };
  const auto guided = [&](double weight) {
    return first_frame(ReconstructionGuidance{network, vjp, picture, mask,
                                              ReconstructionOptions{.weight = weight}});
  };
  // Standard errors: 0.012 of a mean, 0.011 of a variance.
  const Error plain = first_frame(network), none = guided(0), one = guided(1), two = guided(2),
              four = guided(4);
  CHECK(plain.mean == Approx(0.70).margin(0.05));
  CHECK(plain.variance == Approx(0.23).margin(0.05));
  CHECK((none.mean == plain.mean && none.variance == plain.variance));
  CHECK(one.mean < plain.mean - 0.12);
  CHECK(two.mean < one.mean - 0.10);
  CHECK(four.mean < two.mean - 0.15);
  CHECK(one.variance < plain.variance - 0.05);
  CHECK(four.mean < 0.18);
  CHECK(four.variance < 0.08);
}

TEST_CASE("frames are copied, padded and masked along any dimension") {
  Image clip(2, 3, 4, 2), to(2, 3, 6, 2);
  for (int i = 0; i < clip.size(); ++i) clip.data()[i] = static_cast<float>(i);
  to.setZero();
  copy_frames(clip, 1, to, 4, 2, 2);
  for (int b = 0; b < 2; ++b)
    for (int c = 0; c < 3; ++c)
      for (int f = 0; f < 6; ++f)
        for (int k = 0; k < 2; ++k) CHECK(to(b, c, f, k) == (f < 4 ? 0 : clip(b, c, f - 3, k)));
  const Image longer = with_frames_after(clip, 6, 2);
  CHECK((longer(1, 2, 3, 1) == clip(1, 2, 3, 1) && longer(1, 2, 4, 1) == 0));
  const Image mask = first_frames_mask<Image>({2, 3, 4, 2}, 2, 3);
  CHECK(StateTraits<Image>::shape(mask) == ShapeOf<Image>{1, 1, 4, 1});
  CHECK((mask(0, 0, 2, 0) == 1 && mask(0, 0, 3, 0) == 0));
  Column wide(5, 2, 2, 2), part(3, 2, 2, 2);
  for (int i = 0; i < wide.size(); ++i) wide.data()[i] = i;
  copy_frames(wide, 2, part, 0, 3, 0);
  CHECK((part(0, 1, 1, 1) == wide(2, 1, 1, 1) && part(2, 0, 1, 0) == wide(4, 0, 1, 0)));
}

TEST_CASE("the blocks of a rollout") {
  const auto blocks = rollout_blocks(20, {.dimension = 1, .block = 8, .context = 3});
  std::vector<std::vector<Eigen::Index>> found;
  for (const RolloutBlock& block : blocks) found.push_back({block.begin, block.known});
  CHECK(found == std::vector<std::vector<Eigen::Index>>{{0, 0}, {5, 3}, {10, 3}, {12, 6}});
  CHECK(blocks[3].number == 3);
  CHECK(rollout_blocks(8, {.block = 8, .context = 7}).size() == 1);
  CHECK(rollout_blocks(9, {.block = 8, .context = 7}).size() == 2);

  // Each block goes on counting from the last known frame.
  const Signals counted = roll_out<Signals>({2, 20}, {.dimension = 1, .block = 8, .context = 3},
                                            [](const RolloutBlock& block, Signals& x) {
                                              for (Eigen::Index f = block.known; f < 8; ++f)
                                                for (int b = 0; b < 2; ++b)
                                                  x(b, f) = f == 0 ? b : x(b, f - 1) + 1;
                                            });
  for (int f = 0; f < 20; ++f) CHECK((counted(0, f) == f && counted(1, f) == f + 1));
}

TEST_CASE("a rollout of frames that do not see each other is the plain run, bit for bit") {
  const auto plan = DdpmSampler{schedule, {.steps = 5}}.plan();
  const ShapeOf<Image> shape{2, 11, 3, 3};  // batch, frame, height, width
  const Image whole = sample<Image>(plan, Local{}, shape, noise);
  CHECK(support::same_bits(sample_rollout<Image>(plan, Local{}, shape, noise,
                                                 {.dimension = 1, .block = 4, .context = 2}),
                           whole));
  CHECK(support::same_bits(  // frames that are samples
      sample_rollout<Image>(plan, Local{}, {7, 1, 3, 3}, noise,
                            {.dimension = 0, .block = 3, .context = 1}),
      sample<Image>(plan, Local{}, {7, 1, 3, 3}, noise)));
}

TEST_CASE("reconstruction guidance moves the unknown part by the gradient, in every type") {
  constexpr int frames = 5;
  const Gaussian data = chain_data(frames, 0.8);
  const Knot at{300, 0.8, 0.6};
  Signals x(2, frames), y(1, frames), mask(1, frames), out(2, frames), plain(2, frames);
  x.setValues({{0.3, -1, 0.4, 1.2, 0.1}, {1, 0.2, -0.7, 0, 0.5}});
  y.setValues({{1, -0.5, 0, 0, 0}});
  mask.setValues({{1, 0.5, 0, 0, 0}});
  for (const PredictionType type :
       {PredictionType::epsilon, PredictionType::v, PredictionType::sample, PredictionType::flow})
    for (const double scale : {1.0, 0.4}) {
      const auto network = exact_denoiser(data, type);
      ReconstructionGuidance guided{network, exact_vector_jacobian(network), y, mask,
                                    ReconstructionOptions{.weight = 3}};
      const Query query{.t = at.t,
                        .alpha = at.alpha,
                        .sigma = at.sigma,
                        .input_scale = scale,
                        .prediction_type = type,
                        .samples = 2};
      const Signals input = scale * x;
      guided(input, query, out);
      estimate_x0(query, input.data(), out.data(), 10, out.data());
      for (int b = 0; b < 2; ++b) {
        Eigen::VectorXd state(frames);
        for (int f = 0; f < frames; ++f) state[f] = x(b, f);
        const auto loss = [&](const Eigen::VectorXd& s) {
          const Eigen::VectorXd x0 = data.x0(s, at);
          double sum = 0;
          for (int f = 0; f < frames; ++f) sum += std::pow(mask(0, f) * (x0[f] - y(0, f)), 2);
          return sum;
        };
        const Eigen::VectorXd x0 = data.x0(state, at);
        for (int f = 0; f < frames; ++f) {
          Eigen::VectorXd up = state, down = state;
          up[f] += 1e-4;
          down[f] -= 1e-4;
          const double gradient = (loss(up) - loss(down)) / 2e-4;
          CHECK(out(b, f) ==
                Approx(x0[f] - (1 - mask(0, f)) * 3 * 0.8 / 2 * gradient).margin(1e-8));
        }
      }
    }
}

TEST_CASE("what is wrong with windows and continuations is said") {
  const auto plan = DdimSampler{schedule, {.steps = 2}}.plan();
  const auto run = [&](std::vector<WindowAxis> axes) {
    sample<Image>(plan, WindowedDenoiser{Local{}, {std::move(axes)}}, {2, 1, 8, 12}, noise);
  };
  const auto starts = [&](std::vector<Eigen::Index> list, bool wrap = false) {
    run({{.dimension = 3, .size = 5, .wrap = wrap, .starts = std::move(list)}});
  };
  const auto roll = [&](RolloutOptions options) {
    sample_rollout<Image>(plan, Local{}, {1, 8, 2, 2}, noise, options);
  };
  const Signals three(1, 3), four(1, 4);
  const auto guide = [&](double weight, const Signals& y, const Signals& mask) {
    const auto network = exact_denoiser(chain_data(4, 0.5));
    sample<Signals>(plan,
                    ReconstructionGuidance{network, exact_vector_jacobian(network), y, mask,
                                           ReconstructionOptions{.weight = weight}},
                    {2, 4}, noise);
  };
  Signals zeros(1, 4), ones(1, 4), outside(1, 4), known3(1, 3);
  zeros.setZero();
  ones.setConstant(1);
  outside.setConstant(1.5);
  known3.setZero();
  check_errors({
      {"no axes", [&] { run({}); }, {"0 axes"}},
      {"twice",
       [&] {
         run({{.dimension = 3, .size = 2}, {.dimension = 3}});
       },
       {"two", "3"}},
      {"dimension", [&] { run({{.dimension = 4, .size = 2}}); }, {"4", "0 to 3"}},
      {"wider than the state",
       [&] { run({{.dimension = 3, .size = 13, .stride = 4}}); },
       {"size", "dimension 3", "13", "12"}},
      {"size 0", [&] { run({{.dimension = 3, .size = 0}}); }, {"size", "0"}},
      {"gap", [&] { run({{.dimension = 3, .size = 4, .stride = 6}}); }, {"stride", "6", "4"}},
      {"stride 0", [&] { run({{.dimension = 3, .size = 4, .stride = 0}}); }, {"stride", "0"}},
      {"uncovered",
       [&] {
         starts({0, 6});
       },
       {"element 5 of dimension 3", "no window"}},
      {"uncovered at the end",
       [&] {
         starts({0, 4, 6});
       },
       {"element 11"}},
      {"outside",
       [&] {
         starts({0, 5, 8});
       },
       {"begins at 8", "[0, 7]"}},
      {"outside, closed",
       [&] {
         starts({0, 5, 12}, true);
       },
       {"begins at 12", "[0, 11]"}},
      {"jitter and starts",
       [&] { run({{.dimension = 3, .size = 12, .jitter = true, .starts = {0}}}); },
       {"jitter", "starts"}},
      {"blend",
       [&] { run({{.dimension = 3, .size = 4, .blend = static_cast<WindowBlend>(4)}}); },
       {"blend", "4"}},
      {"deviation", [&] { run({{.dimension = 3, .size = 4, .deviation = 0}}); }, {"deviation"}},
      {"NaN deviation",
       [&] { run({{.dimension = 3, .size = 4, .deviation = not_a_number}}); },
       {"deviation", "nan"}},
      {"a network that changes its output",
       [&] {
         const auto network = [](const Image&, double, Image& out) { out = Image(1, 1, 1, 1); };
         sample<Image>(plan,
                       WindowedDenoiser{network, {{{.dimension = 3, .size = 4, .stride = 4}}}},
                       {2, 1, 8, 12}, noise);
       },
       {"1x1x1x1", "6x1x8x4"}},
      {"block", [&] { roll({.dimension = 1, .block = 9, .context = 2}); }, {"block", "9", "8"}},
      {"context", [&] { roll({.dimension = 1, .block = 4, .context = 4}); }, {"context", "4", "3"}},
      {"frames that are not there",
       [&] {
         Signals to(1, 4);
         copy_frames(three, 2, to, 0, 2, 1);
       },
       {"frames 2 to 3", "has 3"}},
      {"another shape",
       [&] {
         Signals to(2, 4);
         copy_frames(three, 0, to, 0, 2, 1);
       },
       {"1x3", "2x4"}},
      {"mask",
       [] {
         first_frames_mask<Signals>({1, 4}, 1, 5);
       },
       {"frames 0 to 4", "has 4"}},
      {"clip shorter than its context", [&] { with_frames_after(four, 3, 1); }, {"3", "4"}},
      {"weight", [&] { guide(-1, zeros, ones); }, {"weight", "-1"}},
      {"NaN weight", [&] { guide(not_a_number, zeros, ones); }, {"weight", "nan"}},
      {"mask outside", [&] { guide(1, zeros, outside); }, {"mask", "1.5"}},
      {"known of another size", [&] { guide(1, known3, ones); }, {"known picture", "1x3", "2x4"}},
  });
}
