#include "catch.hpp"

#include <diffusion/denoiser/timestep_embedding.hpp>
#include <diffusion/samplers/ddim.hpp>
#include <diffusion/schedule/flow_shift.hpp>
#include <diffusion/schedule/grid.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

using namespace diffusion;
using nlohmann::json;

namespace {

static_assert(Schedule<ShiftedFlow> && !DiscreteSchedule<ShiftedFlow>);

const double infinity = std::numeric_limits<double>::infinity();
const double nan_value = std::numeric_limits<double>::quiet_NaN();

json read_json(const std::string& name) {
  std::ifstream file(std::string(DIFFUSION_GOLDEN_DIR) + "/" + name);
  if (!file) throw std::runtime_error("cannot open " + name);
  return json::parse(file);
}

const json& golden_case(const json& file, const std::string& name) {
  for (const json& one : file.at("cases"))
    if (one.at("name") == "flow_match_euler/" + name) return one;
  throw std::runtime_error("no case " + name);
}

/// Times beside a case's sigmas, whose last one is the end of the last step.
double worst(const json& sigmas, const std::vector<double>& times) {
  REQUIRE(sigmas.size() == times.size() + 1);
  double error = std::abs(sigmas.back().get<double>());
  for (std::size_t i = 0; i < times.size(); ++i)
    error = std::max(error, std::abs(sigmas[i].get<double>() - times[i]));
  return error;
}

template <class F>
std::string error_of(const F& f) {
  try {
    f();
  } catch (const Error& error) {
    return error.what();
  }
  return "nothing was refused";
}

void check_error(const std::string& message, const std::vector<std::string>& parts) {
  INFO(message);
  for (const std::string& part : parts) CHECK(message.find(part) != std::string::npos);
}

}  // namespace

TEST_CASE("A shift multiplies the noise-to-data ratio") {
  for (const double shift : {0.25, 1.0, 1.15, 3.0, 12.0})
    for (const double t : {1e-9, 0.01, 0.3, 0.5, 0.9, 0.999}) {
      const double shifted = shifted_time(t, shift);
      CHECK(shifted / (1 - shifted) == Approx(shift * t / (1 - t)).epsilon(1e-12));
      CHECK(shifted_time(shifted, 1 / shift) == Approx(t).epsilon(1e-12));
      CHECK(shifted_time(shifted, 2) == Approx(shifted_time(t, 2 * shift)).epsilon(1e-14));
    }
  for (const double shift : {0.1, 1.0, 7.0}) {
    CHECK(shifted_time(0, shift) == 0);
    CHECK(shifted_time(1, shift) == 1);
  }
  CHECK(shifted_time(0.5, 3) == 0.75);
}

TEST_CASE("mu makes the shift, and the size of the picture mu") {
  CHECK(shift_of_mu(0) == 1);
  CHECK(shift_of_mu(std::log(3.0)) == Approx(3).epsilon(1e-15));
  CHECK(shift_of_mu(2, TimeShift::linear) == 2);
  const json file = read_json("misc.json");
  int compared = 0;
  for (const json& one : file.at("cases")) {
    if (one.at("function") != "calculate_shift") continue;
    ++compared;
    CHECK(dynamic_shift_mu(one.at("image_seq_len").get<double>(),
                           {.base_seq_len = one.at("base_seq_len").get<double>(),
                            .max_seq_len = one.at("max_seq_len").get<double>(),
                            .base_shift = one.at("base_shift").get<double>(),
                            .max_shift = one.at("max_shift").get<double>()}) ==
          Approx(one.at("out").get<double>()).epsilon(1e-15));
  }
  CHECK(compared == 4);
  CHECK(dynamic_shift_mu(256) == 0.5);
  CHECK(dynamic_shift_mu(4096) == Approx(1.15).epsilon(1e-15));
  CHECK(dynamic_shift_mu(8192, {.base_shift = 0, .max_shift = 0.3}) ==
        Approx(0.3 * (8192 - 256) / 3840).epsilon(1e-15));
}

TEST_CASE("The reference's sigmas, where a pipeline gives them before the shift") {
  const json file = read_json("flow_match_euler.json");
  const auto shifted_all = [](const json& before, double shift) {
    std::vector<double> times;
    for (const json& t : before) times.push_back(shifted_time(t.get<double>(), shift));
    return times;
  };
  const auto& given = golden_case(file, "custom_sigmas_shift_3");
  CHECK(worst(given.at("sigmas"), shifted_all(given.at("set_timesteps").at("sigmas"), 3)) < 1e-14);

  // Flux: n even times, mu = 1.15. The configured shift of 3 is not used beside mu.
  const auto& flux = golden_case(file, "dynamic_exponential_mu_1.15_flux");
  const FlowTimesOptions options{.shift = shift_of_mu(flux.at("set_timesteps").at("mu"))};
  CHECK(worst(flux.at("sigmas"), flow_times(8, options)) < 1e-14);
  const Grid grid = make_grid(ShiftedFlow(options.shift, {.time_scale = 1000}), 8);
  for (std::size_t i = 0; i < 8; ++i) {
    const Knot& from = grid[static_cast<int>(i)].from;
    CHECK(from.sigma == Approx(flux.at("sigmas").at(i).get<double>()).epsilon(1e-14));
    CHECK(from.t == Approx(flux.at("timesteps").at(i).get<double>()).epsilon(1e-14));
  }
  CHECK(grid.finish() == Knot{0, 1, 0});

  // The reference's own times run from 1 to the least sigma of its table, which is shifted already.
  const auto from_table = [](int steps, double shift, double least) {
    std::vector<double> times;
    for (int i = 0; i < steps; ++i)
      times.push_back(shifted_time(1 - (1 - least) * i / (steps - 1), shift));
    return times;
  };
  const auto& linear = golden_case(file, "dynamic_linear_mu_2");
  const double linear_shift = shift_of_mu(2, TimeShift::linear);
  CHECK(worst(linear.at("sigmas"), from_table(6, linear_shift, 0.001)) < 1e-14);
  const auto& stretched = golden_case(file, "shift_terminal_0.1");
  CHECK(worst(stretched.at("sigmas"),
              stretched_to_terminal(from_table(8, shift_of_mu(0.9), 0.001), 0.1)) < 1e-14);
  const auto& twice = golden_case(file, "shift_terminal_0.02_shift_2");
  CHECK(worst(twice.at("sigmas"),
              stretched_to_terminal(from_table(8, 2, shifted_time(0.001, 2)), 0.02)) < 1e-14);
}

TEST_CASE("ShiftedFlow is rectified flow seen through shifted time") {
  const RectifiedFlow flow({.time_scale = 1000});
  for (const double shift : {0.3, 1.0, 3.0}) {
    const ShiftedFlow seen = shifted(flow, shift);
    CHECK(seen.shift() == shift);
    for (const double u : {0.0, 0.001, 0.2, 0.5, 0.9, 1.0}) {
      CAPTURE(shift, u);
      const Knot a = seen.knot(u), b = flow.knot(shifted_time(u, shift));
      CHECK(same_level(a, b, 1e-15));
      CHECK(a.t == b.t);
      CHECK(a.alpha + a.sigma == Approx(1).epsilon(1e-15));
      CHECK(seen.alpha(u) == a.alpha);
      CHECK(seen.time(seen.log_snr(u)) == Approx(u).margin(1e-14));
    }
    CHECK(seen.log_snr(0) == infinity);
    CHECK(seen.log_snr(1) == -infinity);
    CHECK(seen.log_snr(0.25) == Approx(2 * std::log(3 / shift)).margin(1e-14));
  }
  const ShiftedFlow twice = shifted(shifted(flow, 2), 1.5);
  CHECK(twice.shift() == 3);
  CHECK(twice.knot(0.5) == Knot{750, 0.25, 0.75});
  CHECK(ShiftedFlow{1.0}.knot(0.3) == RectifiedFlow().knot(0.3));
}

TEST_CASE("A sampler on ShiftedFlow is the one on rectified flow at shifted times") {
  const DdimSampler on_shifted{ShiftedFlow{3.0}, {.steps = 10}};
  const DdimSampler on_flow{RectifiedFlow(),
                            {.steps = 10, .grid = {.timesteps = flow_times(10, {.shift = 3})}}};
  const auto a = on_shifted.plan(), b = on_flow.plan();
  REQUIRE(a.size() == b.size());
  for (int i = 0; i < a.size(); ++i) {
    CHECK(a[i].at.t == Approx(b[i].at.t).epsilon(1e-15));
    CHECK(a[i].x0 == Approx(b[i].x0).epsilon(1e-14));
    CHECK(a[i].eps == Approx(b[i].eps).epsilon(1e-14));
  }
}

TEST_CASE("Times are stretched to end at the terminal") {
  const std::vector<double> times = flow_times(4, {.shift = 2});
  const std::vector<double> stretched = flow_times(4, {.shift = 2, .shift_terminal = 0.1});
  CHECK(stretched.front() == 1);
  CHECK(stretched.back() == 0.1);
  for (std::size_t i = 1; i < times.size(); ++i) {
    CHECK(stretched[i] < stretched[i - 1]);
    CHECK((1 - stretched[i]) / (1 - times[i]) == Approx(0.9 / (1 - times.back())).epsilon(1e-14));
  }
  const std::vector<double> one{1.0};
  CHECK(flow_times(1) == one);
  CHECK(flow_times(1, {.shift = 3, .shift_terminal = 0.1}) == one);  // 0/0 in the reference
  CHECK(flow_times(2) == std::vector<double>{1.0, 0.5});
  CHECK(stretched_to_terminal({}, 0.1).empty());
  CHECK(stretched_to_terminal({0.8, 0.3}, 0.0).back() == 0);
  const auto grid = make_grid(RectifiedFlow(), 4, {.timesteps = stretched});
  CHECK(grid.finish() == Knot{0, 1, 0});
}

TEST_CASE("What a shift refuses is named") {
  for (const double bad : {0.0, -1.0, infinity, nan_value}) {
    check_error(error_of([&] { shifted_time(0.5, bad); }), {"shift is ", "strictly between 0"});
    check_error(error_of([&] { ShiftedFlow{bad}; }), {"shift is ", "strictly between 0"});
    check_error(error_of([&] { shifted(ShiftedFlow{2.0}, bad); }), {"shift is "});
    check_error(error_of([&] { flow_times(3, {.shift = bad}); }), {"shift is "});
    check_error(error_of([&] { shift_of_mu(bad, TimeShift::linear); }), {"mu is ", "positive"});
    check_error(error_of([&] { dynamic_shift_mu(bad); }), {"image_seq_len is "});
  }
  for (const double bad : {-0.1, 1.1, nan_value}) {
    check_error(error_of([&] { shifted_time(bad, 3); }), {"time t is ", "[0, 1]"});
    check_error(error_of([&] { ShiftedFlow{3.0}.alpha(bad); }), {"time t is ", "[0, 1]"});
  }
  for (const double bad : {-0.1, 1.0, nan_value}) {
    check_error(error_of([&] { stretched_to_terminal({1, 0.5}, bad); }), {"terminal is "});
    check_error(error_of([&] { flow_times(3, {.shift_terminal = bad}); }), {"shift_terminal is "});
  }
  check_error(error_of([] { shift_of_mu(nan_value); }), {"mu is nan"});
  check_error(error_of([] { shift_of_mu(1000); }), {"mu is 1000", "positive and finite"});
  check_error(error_of([] { shift_of_mu(0.5, static_cast<TimeShift>(2)); }), {"time shift type"});
  check_error(error_of([] { dynamic_shift_mu(256, {.max_seq_len = 256}); }),
              {"max_seq_len is 256", "base_seq_len"});
  check_error(error_of([] { dynamic_shift_mu(256, {.base_shift = nan_value}); }), {"base_shift"});
  check_error(error_of([] { flow_times(0); }), {"steps is 0"});
  check_error(error_of([] { ShiftedFlow(3, {.time_scale = 0}); }), {"time_scale is 0"});
  check_error(error_of([] { ShiftedFlow{3.0}.time(nan_value); }), {"log_snr"});
}

TEST_CASE("The sinusoids that tell a network the time") {
  const json file = read_json("misc.json");
  int compared = 0;
  for (const json& one : file.at("cases")) {
    if (one.at("function") != "timestep_embedding") continue;
    ++compared;
    const auto width = one.at("embedding_dim").get<std::size_t>();
    const TimestepEmbeddingOptions options{
        .cosine_first = one.at("flip_sin_to_cos").get<bool>(),
        .frequency_shift = one.at("downscale_freq_shift").get<double>(),
        .max_period = one.at("max_period").get<double>()};
    std::size_t at = 0;
    for (const json& t : one.at("timesteps")) {
      std::vector<double> wide(width);
      std::vector<float> narrow(width);
      timestep_embedding(t.get<double>(), std::span(wide), options);
      timestep_embedding(t.get<double>(), std::span(narrow), options);
      for (std::size_t i = 0; i < width; ++i, ++at) {
        CHECK(wide[i] == Approx(one.at("out")[at].get<double>()).margin(1e-12));
        CHECK(narrow[i] == static_cast<float>(wide[i]));
      }
    }
  }
  CHECK(compared == 4);

  std::array<double, 4> out{};
  timestep_embedding(3, std::span<double>(out), {.max_period = 100, .scale = 2});
  CHECK(out[0] == Approx(std::sin(6.0)));
  CHECK(out[1] == Approx(std::sin(0.06)));
  CHECK(out[3] == Approx(std::cos(0.06)));
  const std::span<double> two(out.data(), 2);
  check_error(error_of([&] { timestep_embedding(3, two); }), {"frequency_shift is 1", "width, 1"});
  check_error(error_of([&] { timestep_embedding(3, two, {.max_period = 0}); }),
              {"frequency_shift"});
  check_error(
      error_of([&] { timestep_embedding(3, two, {.frequency_shift = 0, .max_period = 0}); }),
      {"max_period is 0"});
}
