// Inversion: the noise of Gaussian data is known in closed form, the round trip's error falls at
// the sampler's order, a fixed point and the noise maps of edit-friendly inversion lead back to
// rounding, and what an edit does to a Gaussian is a sum.

#include "catch.hpp"
#include "support.hpp"

#include <diffusion/denoiser/exact/exact_denoiser.hpp>
#include <diffusion/edit/ddpm_inversion.hpp>
#include <diffusion/edit/inversion.hpp>
#include <diffusion/guidance/classifier_free.hpp>
#include <diffusion/samplers/ddpm.hpp>
#include <diffusion/samplers/dpm2.hpp>
#include <diffusion/samplers/dpm_solver.hpp>
#include <diffusion/samplers/dpm_solver_singlestep.hpp>
#include <diffusion/samplers/euler.hpp>
#include <diffusion/samplers/heun.hpp>
#include <diffusion/samplers/lcm.hpp>
#include <diffusion/schedule/noise_schedule.hpp>
#include <diffusion/schedule/trig_flow.hpp>

#include <cmath>
#include <functional>
#include <limits>
#include <span>
#include <string>
#include <vector>

using namespace diffusion;

namespace {

template <class S>
using PointsOf = Eigen::Matrix<S, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using Points = PointsOf<double>;
using Vector2 = Eigen::Vector2d;

const auto linear = NoiseSchedule<>::linear();

Gaussian gaussian(double mean = 0.4, double variance = 0.25) {
  return Gaussian::isotropic(Vector2(mean, -2 * mean), variance);
}

GaussianMixture mixture() {
  return GaussianMixture(
      {{0.5, gaussian(0.4, 0.09)}, {0.3, gaussian(-0.5, 0.2)}, {0.2, gaussian(1.1, 0.05)}});
}

template <class S = double>
PointsOf<S> pictures() {
  PointsOf<S> x(4, 2);
  x << S(0.1), S(-0.5), S(1.0), S(-1.1), S(-0.4), S(0.7), S(0.5), S(-0.9);
  return x;
}

/// n steps evenly spaced in log sigma / alpha, where solvers show their order.
GridOptions even_levels(int n, double most = 20, double least = 0.05) {
  GridOptions options;
  options.set_alpha_to_one = false;
  for (int i = 0; i <= n; ++i)
    options.own_sigmas.push_back(most * std::pow(least / most, static_cast<double>(i) / n));
  return options;
}

DdimSampler<NoiseSchedule<>> ddim(int steps, bool clean = true) {
  return DdimSampler(
      linear,
      {.steps = steps, .grid = {.spacing = TimestepSpacing::trailing, .set_alpha_to_one = clean}});
}

double largest(const Points& x) { return x.cwiseAbs().maxCoeff(); }

/// The exact network as a real one is: it goes by the time that it is told.
template <class P>
struct GoesByTime {
  P data;
  PredictionType type = PredictionType::epsilon;
  PredictionType prediction_type() const { return type; }
  void operator()(const Points& x, const Query& query, Points& out) const {
    const Knot at = knot_at(linear, query.t);
    for (Eigen::Index i = 0; i < x.rows(); ++i)
      out.row(i) = exact_prediction(data, type, x.row(i).transpose(), at).transpose();
  }
};

struct Asked {
  double t;
  int stage, step, steps;
  bool operator==(const Asked&) const = default;
};

std::string message_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

}  // namespace

// ---- the plans -------------------------------------------------------------------------------

TEST_CASE("Walking DDIM back is DdimInverseSampler") {
  const auto network = exact_denoiser(mixture());
  for (const bool clean : {false, true})
    for (const bool target : {false, true}) {
      if (clean && !target) continue;  // there the network is told another time
      const auto sampler = ddim(12, clean);
      const DdimInverseSampler inverse(
          linear, {.steps = 12,
                   .grid = sampler.options().grid,
                   .time = target ? InversionTime::target : InversionTime::source});
      Points expected = pictures();
      sample_in_place(inverse, network, expected, PhiloxNoise{1});
      const auto method = target ? InversionMethod::target_time : InversionMethod::reversed;
      CHECK(invert(sampler, network, pictures(), {.method = method}).noise == expected);
    }
}

TEST_CASE("What the network is told") {
  std::vector<Asked> asked;
  const auto network = [&](const Points& x, const Query& q, Points& eps) {
    asked.push_back({q.t, q.stage, q.step, q.steps});
    eps = 0.1 * x;
  };
  const auto told = [&](InversionMethod method, bool clean) {
    asked.clear();
    invert(ddim(4, clean), network, pictures(),
           {.method = method, .iterations = 1, .tolerance = 0, .accelerate = false});
    return asked;
  };
  using M = InversionMethod;
  // Trailing: 999, 749, 499, 249, then clean data (-1) or timestep 0.
  CHECK(told(M::target_time, true) ==
        std::vector<Asked>{{249, 0, 0, 4}, {499, 1, 1, 4}, {749, 2, 2, 4}, {999, 3, 3, 4}});
  CHECK(told(M::target_time, false) == told(M::target_time, true));
  CHECK(told(M::reversed, false) ==
        std::vector<Asked>{{0, 0, 0, 4}, {249, 1, 1, 4}, {499, 2, 2, 4}, {749, 3, 3, 4}});
  // At sigma = 0 nobody was trained: the next level's time.
  CHECK(told(M::reversed, true) ==
        std::vector<Asked>{{249, 0, 0, 4}, {249, 1, 1, 4}, {499, 2, 2, 4}, {749, 3, 3, 4}});
  // The steps of sampling, the last first, each tried once and corrected once.
  CHECK(told(M::fixed_point, true) == std::vector<Asked>{{249, 3, 3, 4},
                                                         {249, 3, 3, 4},
                                                         {499, 2, 2, 4},
                                                         {499, 2, 2, 4},
                                                         {749, 1, 1, 4},
                                                         {749, 1, 1, 4},
                                                         {999, 0, 0, 4},
                                                         {999, 0, 0, 4}});
}

// ---- errors and orders -----------------------------------------------------------------------

TEST_CASE("The round trip's error falls at the sampler's order") {
  struct Case {
    const char* name;
    std::function<double(int)> error;
    double order;
  };
  const GoesByTime<GaussianMixture> by_time{mixture()};
  const auto network = exact_denoiser(mixture());
  const auto with_ddim = [&](InversionMethod method) {
    return [&, method](int n) {
      const DdimSampler sampler(linear, {.grid = even_levels(n)});
      return *invert(sampler, by_time, pictures(), {.method = method, .round_trip = true})
                  .round_trip;
    };
  };
  const auto walked_back = [&](const auto& sampler) {
    return *invert(sampler, network, pictures(),
                   {.method = InversionMethod::reversed, .round_trip = true})
                .round_trip;
  };
  const Case cases[] = {
      {"DDIM, told the state's time", with_ddim(InversionMethod::reversed), 1},
      {"DDIM, told the target's", with_ddim(InversionMethod::target_time), 1},
      {"DPM-Solver++ 2M",
       [&](int n) {
         return walked_back(DpmSolverSampler(
             linear, {.lower_order_final = LowerOrderFinal::never, .grid = even_levels(n)}));
       },
       2},
      {"Heun, walked back by Heun",
       [&](int n) { return walked_back(HeunSampler(linear, {.grid = even_levels(n)})); }, 2},
  };
  for (const Case& c : cases) {
    const double coarse = c.error(200), fine = c.error(400);
    INFO(c.name << ": " << coarse << " then " << fine);
    CHECK(fine < 0.05);
    const double order = std::log2(coarse / fine);
    CHECK(order > c.order - 0.2);
    CHECK((order < c.order + 0.2 || c.order == 2));  // a symmetric pair may cancel more
  }
}

TEST_CASE("The inverted noise of a Gaussian is that of its probability flow") {
  const Gaussian data = gaussian();
  const auto network = exact_denoiser(data);
  const auto error = [&](const auto& sampler, InversionMethod method) {
    const auto found = invert(sampler, network, pictures(), {.method = method, .tolerance = 1e-12});
    const Points x = pictures();
    double worst = 0;
    for (Eigen::Index i = 0; i < x.rows(); ++i) {
      const Eigen::VectorXd exact =
          data.flow(x.row(i).transpose(), found.grid.finish(), found.knot(0));
      worst = std::max(worst, (found.noise.row(i).transpose() - exact).norm());
    }
    return worst;
  };
  using M = InversionMethod;
  for (const M method : {M::reversed, M::target_time, M::fixed_point}) {
    const double coarse = error(DdimSampler(linear, {.grid = even_levels(200)}), method);
    const double fine = error(DdimSampler(linear, {.grid = even_levels(400)}), method);
    CHECK(std::log2(coarse / fine) == Approx(1).margin(0.1));
    CHECK(fine < 0.02);
  }
  const auto second = [&](int n) {
    return error(DpmSolverSampler(
                     linear, {.lower_order_final = LowerOrderFinal::never, .grid = even_levels(n)}),
                 M::reversed);
  };
  CHECK(std::log2(second(200) / second(400)) == Approx(2).margin(0.2));
  CHECK(second(400) < 2e-3);
}

TEST_CASE("What a perfect network predicts makes no difference to any inversion") {
  const auto agree = [](const auto& inverted) {
    const Points expected = inverted(exact_denoiser(mixture()));
    for (const PredictionType& type : {PredictionType::v, PredictionType::flow}) {
      INFO(name(type));
      CHECK(largest(inverted(exact_denoiser(mixture(), type)) - expected) < 1e-9);
    }
  };
  const auto walked = [](const auto& sampler, InversionMethod method) {
    return [=](const auto& network) {
      return invert(sampler, network, pictures(),
                    {.method = method, .iterations = 200, .tolerance = 1e-13})
          .noise;
    };
  };
  const auto edited = [](const auto& sampler) {
    return [=](const auto& network) {
      const auto found = invert_ddpm(sampler, network, pictures(), PhiloxNoise{3});
      return resume(found, exact_denoiser(gaussian()));
    };
  };
  using M = InversionMethod;
  const GridOptions grid = even_levels(20);
  agree(walked(DdimSampler(linear, {.grid = grid}), M::target_time));
  agree(walked(DpmSolverSampler(linear, {.grid = grid}), M::reversed));
  agree(walked(HeunSampler(linear, {.grid = grid}), M::reversed));
  agree(walked(HeunSampler(linear, {.grid = grid}), M::fixed_point));
  agree(edited(EulerAncestralSampler(linear, {.steps = 20})));
  agree(edited(LcmSampler(linear, {.steps = 4})));
}

// ---- the fixed point -------------------------------------------------------------------------

TEST_CASE("A fixed point leads back at any number of steps, for every prediction type") {
  for (const PredictionType& type : all_prediction_types) {
    const auto network = exact_denoiser(mixture(), type);
    for (const int n : {6, 25}) {
      const DdimSampler sampler(linear, {.grid = even_levels(n)});
      const auto found = invert(sampler, network, pictures(),
                                {.method = InversionMethod::fixed_point,
                                 .round_trip = true,
                                 .iterations = 200,
                                 .tolerance = 1e-12});
      INFO(name(type) << ", " << n << " steps, residual " << found.residual);
      CHECK(found.residual <= 1e-12);
      CHECK(*found.round_trip < 1e-10);
    }
  }
}

TEST_CASE("A fixed point of steps with several stages") {
  const auto network = exact_denoiser(mixture());
  const InversionOptions options{.method = InversionMethod::fixed_point,
                                 .keep_trajectory = true,
                                 .round_trip = true,
                                 .iterations = 200,
                                 .tolerance = 1e-12};
  const auto check = [&](const auto& sampler) {
    const auto found = invert(sampler, network, pictures(), options);
    CHECK(*found.round_trip < 1e-10);
    for (int k = 0; k <= found.steps(); ++k)
      CHECK(largest(resume(sampler, network, found, k) - pictures()) < 1e-10);
  };
  check(HeunSampler(linear, {.grid = even_levels(10)}));
  check(Dpm2Sampler(linear, {.grid = even_levels(10)}));
  check(EulerSampler(linear, {.grid = even_levels(10)}));
}

TEST_CASE("The residual tells where iterations were not enough, and acceleration saves calls") {
  const auto network = exact_denoiser(mixture());
  const DdimSampler sampler(linear, {.grid = even_levels(8)});
  const auto found = [&](int iterations, double tolerance, bool accelerate) {
    return invert(sampler, network, pictures(),
                  {.method = InversionMethod::fixed_point,
                   .round_trip = true,
                   .iterations = iterations,
                   .tolerance = tolerance,
                   .accelerate = accelerate});
  };
  double before = 1;
  for (const int iterations : {1, 3, 9}) {
    const auto short_of = found(iterations, 0, false);
    CHECK(short_of.network_calls == 8 * (iterations + 1));
    CHECK(short_of.residual > 1e-9);
    CHECK(short_of.residual < before);
    before = short_of.residual;
  }
  const auto plain = found(300, 1e-10, false), fast = found(300, 1e-10, true);
  CHECK(plain.residual <= 1e-10);
  CHECK(fast.residual <= 1e-10);
  CHECK(3 * fast.network_calls < 2 * plain.network_calls);
}

TEST_CASE("Zero terminal SNR: v is inverted, eps refused where it is asked") {
  const auto zero_snr = linear.rescaled_to_zero_terminal_snr();
  const DdimSampler sampler(zero_snr,
                            {.steps = 20, .grid = {.spacing = TimestepSpacing::trailing}});
  REQUIRE(sampler.grid().start().alpha == 0);
  const auto v = exact_denoiser(gaussian(), PredictionType::v);
  for (const InversionMethod method :
       {InversionMethod::reversed, InversionMethod::target_time, InversionMethod::fixed_point}) {
    const auto found =
        invert(sampler, v, pictures(),
               {.method = method, .round_trip = true, .iterations = 100, .tolerance = 1e-11});
    CHECK(found.knot(0).alpha == 0);
    CHECK(*found.round_trip < (method == InversionMethod::fixed_point ? 1e-10 : 0.4));
  }
  const auto eps = exact_denoiser(gaussian());
  CHECK_NOTHROW(invert(sampler, eps, pictures()));  // to pure noise, not from it
  CHECK_THAT(message_of([&] { invert(sampler, eps, pictures(), {.round_trip = true}); }),
             contains("x0 is undefined for prediction type epsilon"));
  CHECK_NOTHROW(invert(sampler, eps, pictures(), {.skip_noisy = 1, .round_trip = true}));
}

// ---- trajectories and edits ------------------------------------------------------------------

TEST_CASE("The trajectory holds the state at every knot, and sampling resumes at any") {
  const auto network = exact_denoiser(mixture());
  const auto sampler = ddim(10);
  const InversionOptions keep{.keep_trajectory = true};
  const auto found = invert(sampler, network, pictures(), keep);
  REQUIRE(found.trajectory.size() == 11);
  CHECK(found.trajectory.front() == found.noise);
  CHECK(found.trajectory.back() == pictures());
  CHECK(found.network_calls == 10);
  for (int k = 0; k <= 10; ++k) {
    const Knot level = k < 10 ? sampler.grid()[k].from : sampler.grid().finish();
    CHECK(found.knot(k) == level);
    // Sampling the rest of the grid, by hand.
    Points x = found.state(k);
    if (k < 10) sample_in_place(sampler.plan(sampler.grid().cut(k)), network, x, PhiloxNoise{0});
    CHECK(resume(sampler, network, found, k) == x);
    // A part of the way is the same walk.
    const auto part = k < 10 ? invert(sampler, network, pictures(), {.skip_noisy = k}) : found;
    if (k < 10) CHECK(part.noise == found.state(k));
  }
  // The nearer to the picture, the less is lost.
  const auto lost = [&](int k) { return largest(resume(sampler, network, found, k) - pictures()); };
  CHECK(lost(10) == 0);
  CHECK(lost(8) < lost(0));

  const auto without = invert(sampler, network, pictures());
  CHECK(without.noise == found.noise);
  CHECK_FALSE(without.round_trip);
  CHECK(message_of([&] { resume(sampler, network, without, 3); }) ==
        "the state at knot 3 was not kept; set InversionOptions::keep_trajectory");
}

TEST_CASE("Steps are left out at both ends") {
  const auto network = exact_denoiser(mixture());
  const auto sampler = ddim(10);
  const auto found = invert(sampler, network, pictures(), {.skip_noisy = 2, .skip_clean = 1});
  CHECK(found.steps() == 7);
  CHECK(found.grid.first_step() == 2);
  CHECK(found.knot(0) == sampler.grid()[2].from);
  CHECK(found.knot(7) == sampler.grid()[9].from);
  CHECK(found.network_calls == 7);
}

TEST_CASE("An edit of a Gaussian moves it by the difference of the means") {
  const Gaussian before = gaussian(0.4), after = gaussian(-0.3);
  const auto sampler = DpmSolverSampler(
      linear, {.lower_order_final = LowerOrderFinal::never, .grid = even_levels(400)});
  for (const int skip : {0, 200}) {
    const InversionOptions options{.method = InversionMethod::reversed, .skip_noisy = skip};
    const Points edited = edit_by_inversion(sampler, exact_denoiser(before), exact_denoiser(after),
                                            pictures(), options);
    const Knot top = sampler.grid()[skip].from, end = sampler.grid().finish();
    Points expected = pictures();
    for (Eigen::Index i = 0; i < expected.rows(); ++i)
      expected.row(i) =
          after.flow(before.flow(expected.row(i).transpose(), end, top), top, end).transpose();
    CHECK(largest(edited - expected) < 2e-3);
    // Almost the whole way at pure noise, less from the middle.
    const double moved = (edited - pictures()).col(0).mean();
    if (skip == 0)
      CHECK(moved == Approx(-0.7).margin(0.03));
    else
      CHECK((moved < 0 && moved > -0.5));
  }
}

TEST_CASE("Guidance inside an inversion") {
  const auto network = exact_conditional_denoiser(mixture());
  ClassifierFreeGuidance guided{network, std::vector<int>{0, 1, 2, 0}, -1,
                                GuidanceOptions{.scale = 1.5}};
  const auto found = invert(ddim(20, false), guided, pictures(),
                            {.method = InversionMethod::fixed_point,
                             .round_trip = true,
                             .iterations = 300,
                             .tolerance = 1e-10});
  CHECK(found.residual <= 1e-10);
  CHECK(*found.round_trip < 1e-7);
}

// ---- states ----------------------------------------------------------------------------------

TEST_CASE("States of other types, views and unbatched ones") {
  const auto network = exact_denoiser(mixture());
  const auto sampler = ddim(10, false);
  const InversionOptions options{.method = InversionMethod::fixed_point, .round_trip = true};
  const Points expected = invert(sampler, network, pictures(), options).noise;

  const auto floats = invert(sampler, network, pictures<float>(), options);
  static_assert(std::is_same_v<decltype(floats.noise), PointsOf<float>>);
  CHECK(largest(floats.noise.cast<double>() - expected) < 1e-3);
  CHECK(*floats.round_trip < 1e-4);

  const Points x = pictures();
  const auto mapped =
      invert(sampler, network, Eigen::Map<const Points>(x.data(), x.rows(), x.cols()), options);
  static_assert(std::is_same_v<decltype(mapped.noise), Points>);
  CHECK(mapped.noise == expected);

  std::vector<double> one(x.data(), x.data() + 2);
  const auto single = invert(sampler, network, std::span<double>(one), options, {.batch = false});
  static_assert(std::is_same_v<decltype(single.noise), std::vector<double>>);
  CHECK(single.noise[0] == Approx(expected(0, 0)).margin(1e-3));
}

TEST_CASE("A deadline ends an inversion, and it says so") {
  const auto network = exact_denoiser(mixture());
  const SampleOptions late{.deadline = std::chrono::steady_clock::now()};
  for (const InversionMethod method :
       {InversionMethod::target_time, InversionMethod::fixed_point}) {
    const auto found =
        invert(ddim(10), network, pictures(), {.method = method, .round_trip = true}, late);
    CHECK(found.status == Status::deadline);
    CHECK(found.noise == pictures());
    CHECK_FALSE(found.round_trip);
  }
  CHECK_THAT(
      message_of([&] { edit_by_inversion(ddim(10), network, network, pictures(), {}, late); }),
      contains("the deadline has passed"));
}

TEST_CASE("What cannot be inverted is refused") {
  const auto eps = exact_denoiser(mixture());
  const auto x0 = exact_denoiser(mixture(), PredictionType::sample);
  const auto inverted = [](const auto& sampler, const auto& network,
                           InversionOptions options = {}) {
    return message_of([&] { invert(sampler, network, pictures(), options); });
  };
  const double nan = std::numeric_limits<double>::quiet_NaN();
  using M = InversionMethod;
  CHECK(inverted(ddim(10), eps, {.skip_noisy = 10}) ==
        "InversionOptions::skip_noisy is 10; it must lie in [0, 9]");
  CHECK(inverted(ddim(10), eps, {.skip_noisy = 4, .skip_clean = 6}) ==
        "InversionOptions::skip_clean is 6; it must lie in [0, 5]");
  CHECK(inverted(ddim(10), eps, {.iterations = 0}) ==
        "InversionOptions::iterations is 0; it must lie in [1, 10000]");
  CHECK(inverted(ddim(10), eps, {.tolerance = nan}) ==
        "InversionOptions::tolerance is nan; it must lie in [0, 1000000]");
  CHECK(inverted(ddim(10), eps, {.method = static_cast<M>(3)}) ==
        "InversionOptions::method is 3; it must lie in [0, 2]");
  CHECK_THAT(inverted(DdimSampler(linear, {.steps = 10, .eta = 0.5}), eps),
             contains("stage 0 of the plan adds noise with weight") && contains("invert_ddpm"));
  CHECK_THAT(inverted(EulerAncestralSampler(linear, {.steps = 10}), eps),
             contains("adds noise with weight"));
  CHECK_THAT(inverted(HeunSampler(linear, {.steps = 10}), eps, {.method = M::target_time}),
             contains("has more than one stage"));
  CHECK_THAT(inverted(DpmSolverSampler(linear, {.steps = 10}), eps, {.method = M::fixed_point}),
             contains("stage 1 of the plan reads what an earlier step has left"));
  CHECK_THAT(inverted(DdimSampler(linear, {.steps = 7,
                                           .grid = {.spacing = TimestepSpacing::linspace,
                                                    .previous = PreviousTimestep::stride}}),
                      eps),
             contains("PreviousTimestep::from_list"));
  CHECK_THAT(inverted(ddim(10), x0), contains("eps is undefined for prediction type sample"));
  CHECK(inverted(ddim(10), x0, {.skip_clean = 1}) == "no error");
  CHECK(inverted(ddim(10, false), x0) == "no error");
  CHECK_THAT(message_of([&] {
               invert(
                   ddim(10), [](const Points& x, double, Points& out) { out = x / 0.0; },
                   pictures());
             }),
             contains("the state is not finite after stage 1 of an inversion"));
  CHECK_THAT(message_of([&] {
               resume(DdimSampler(linear, {.eta = 1}), eps, invert(ddim(10), eps, pictures()));
             }),
             contains("adds noise with weight"));
}

// ---- edit-friendly inversion -----------------------------------------------------------------

namespace {

/// The picture comes back from every stage, to `tolerance`, and exactly as the states say.
template <class T, class Sampler, class D>
void check_maps(const Sampler& sampler, const D& network, const T& x, double tolerance) {
  const auto found = invert_ddpm(sampler, network, x, PhiloxNoise{3});
  REQUIRE(static_cast<int>(found.states.size()) == found.plan.size() + 1);
  for (int k = 0; k < found.plan.size(); ++k) {
    const T back = resume(found, network, k);
    CHECK(back == found.states.back());
    CHECK(largest((back - x).template cast<double>()) <= tolerance);
  }
}

}  // namespace

TEST_CASE("Edit-friendly inversion gives the picture back, for every sampler with single stages") {
  for (const PredictionType& type : all_prediction_types) {
    INFO(name(type));
    const auto network = exact_denoiser(mixture(), type);
    check_maps(DdpmSampler(linear, {.steps = 20}), network, pictures(), 1e-14);
    check_maps(DdpmSampler(linear, {.steps = 20}), network, pictures<float>(), 1e-6);
  }
  const auto network = exact_denoiser(mixture());
  const auto clip = Clipping::range(0.8);
  check_maps(DdpmSampler(linear, {.steps = 20, .clipping = clip}), network, pictures(), 1e-14);
  check_maps(DdimSampler(linear, {.steps = 20, .eta = 0.5}), network, pictures(), 1e-14);
  check_maps(EulerAncestralSampler(linear, {.steps = 20, .s_noise = 1.1}), network, pictures(),
             1e-14);
  check_maps(LcmSampler(linear, {.steps = 4}), network, pictures(), 1e-14);
  const auto zero_snr = linear.rescaled_to_zero_terminal_snr();
  check_maps(DdimSampler(zero_snr,
                         {.steps = 20, .eta = 1, .grid = {.spacing = TimestepSpacing::trailing}}),
             exact_denoiser(mixture(), PredictionType::v), pictures(), 1e-14);
}

TEST_CASE("Edit-friendly inversion with a learned variance") {
  // Two channels for the noise, two for the variance.
  const auto network = [](const Points& x, double, Points& out) {
    out.resize(x.rows(), 4);
    out.leftCols(2) = 0.5 * x;
    out.rightCols(2) = (0.3 * x).array().sin().square() + 0.1;
  };
  for (const VarianceType variance : {VarianceType::learned_range, VarianceType::learned}) {
    const DdpmSampler sampler(linear, {.steps = 20, .variance = variance});
    const auto found = invert_ddpm(sampler, network, pictures(), PhiloxNoise{3});
    CHECK(largest(resume(found, network) - pictures()) < 1e-13);
    CHECK(largest(resume(found, network, 15) - pictures()) < 1e-13);
  }
}

TEST_CASE("Without the remainder the last row lands where the network says") {
  const auto network = exact_denoiser(mixture());
  const DdpmSampler sampler(linear, {.steps = 20});
  const auto carried = invert_ddpm(sampler, network, pictures(), PhiloxNoise{3});
  const auto paper =
      invert_ddpm(sampler, network, pictures(), PhiloxNoise{3}, {.carry_remainder = false});
  CHECK(paper.remainder > 1e-3);
  CHECK(paper.remainder == carried.remainder);
  CHECK(paper.maps.size() == 19);
  CHECK(carried.maps.size() == 20);
  const Points error = resume(paper, network) - pictures();
  CHECK(error.rowwise().norm().maxCoeff() / std::sqrt(2.0) == Approx(paper.remainder));
}

TEST_CASE("The noise maps of a Gaussian have the variance and the correlation of a sum") {
  // Of x and x' only the picture is common, so z = (x' - m x - c) / w is a sum of three.
  const double variance = 0.25, eta = 1;
  const Gaussian data = Gaussian::isotropic(Eigen::VectorXd::Zero(1), variance);
  const auto network = exact_denoiser(data);
  const DdimSampler sampler(linear, {.steps = 10, .eta = eta});
  constexpr Eigen::Index count = 20'000;
  const Points x = draw_data<Points>(data, {count, 1}, PhiloxNoise{11});
  const auto found = invert_ddpm(sampler, network, x, PhiloxNoise{12});
  const auto total = [&](const Knot& at) {
    return at.alpha * at.alpha * variance + at.sigma * at.sigma;
  };
  const auto slope = [&](const Stage& s) {
    const double x0 = s.at.alpha * variance / total(s.at), eps = s.at.sigma / total(s.at);
    return s.x0 * x0 + s.eps * eps;
  };
  for (const int k : {0, 4, 7}) {
    const Stage &now = found.plan[k], &next = found.plan[k + 1];
    const double m = slope(now), w = now.noise[0].weight;
    const double expected =
        (total(now.to) + m * m * total(now.at) - 2 * m * now.at.alpha * now.to.alpha * variance) /
        (w * w);
    const auto z =
        Eigen::Map<const Eigen::ArrayXd>(found.maps[static_cast<std::size_t>(k)].data(), count);
    const auto z_next =
        Eigen::Map<const Eigen::ArrayXd>(found.maps[static_cast<std::size_t>(k) + 1].data(), count);
    CHECK(z.square().mean() == Approx(expected).epsilon(0.04));
    CHECK(expected > 1.2);  // larger than the noise of sampling
    // x' is in both, with opposite signs.
    const double m_next = slope(next), w_next = next.noise[0].weight;
    const double common = (next.to.alpha * now.to.alpha * variance - m_next * total(now.to) -
                           m * next.to.alpha * now.at.alpha * variance +
                           m * m_next * now.at.alpha * next.at.alpha * variance) /
                          (w * w_next);
    const double spread = std::sqrt(expected * z_next.square().mean() / count);
    CHECK((z * z_next).mean() == Approx(common).margin(5 * spread));
    CHECK(common < 0);
  }
}

TEST_CASE("An edit-friendly edit of a Gaussian moves every point by the same") {
  const Gaussian before = gaussian(0.4), after = gaussian(-0.3);
  const DdpmSampler sampler(linear, {.steps = 30});
  const auto found = invert_ddpm(sampler, exact_denoiser(before), pictures(), PhiloxNoise{5});
  for (const int k : {0, 10, 25}) {
    // The maps drop out of the difference of the two runs, d' = m d + what the means differ by.
    Vector2 shift(0, 0);
    for (int i = k; i < found.plan.size(); ++i) {
      const Stage& s = found.plan[i];
      const Vector2 mid(0.1, 0.2);
      const Vector2 other = mid + shift;
      const auto row = [&](const Gaussian& data, const Vector2& x) -> Vector2 {
        return s.x * x + s.x0 * data.x0(x, s.at) + s.eps * data.eps(x, s.at);
      };
      shift = row(after, other) - row(before, mid);
    }
    const Points edited = resume(found, exact_denoiser(after), k);
    for (Eigen::Index i = 0; i < edited.rows(); ++i) {
      CHECK(edited(i, 0) - pictures()(i, 0) == Approx(shift[0]).margin(1e-10));
      CHECK(edited(i, 1) - pictures()(i, 1) == Approx(shift[1]).margin(1e-10));
    }
    if (k == 0) CHECK(shift[0] == Approx(-0.7).margin(0.05));
  }
}

TEST_CASE("What edit-friendly inversion refuses") {
  const auto network = exact_denoiser(mixture());
  const auto refused = [&](const auto& sampler) {
    return message_of([&] { invert_ddpm(sampler, network, pictures(), PhiloxNoise{1}); });
  };
  CHECK_THAT(refused(ddim(10)), contains("no stage of the plan adds noise"));
  CHECK_THAT(refused(DpmSolverSampler(linear, {.steps = 10, .eta = 1})),
             contains("stage 1 of the plan reads an earlier estimate"));
  CHECK_THAT(refused(DpmSolverAncestralSampler(linear, {.steps = 10})),
             contains("reads") && contains("edit-friendly inversion is for"));
  const auto found =
      invert_ddpm(DdpmSampler(linear, {.steps = 10}), network, pictures(), PhiloxNoise{1});
  CHECK(message_of([&] { resume(found, network, 10); }) == "k is 10; it must lie in [0, 9]");
  CHECK_THAT(message_of([&] {
               invert_ddpm(DdpmSampler(linear, {.steps = 10}), network, pictures(), PhiloxNoise{1},
                           {}, {.deadline = std::chrono::steady_clock::now()});
             }),
             contains("the deadline has passed after 0 of 10 stages"));
}
