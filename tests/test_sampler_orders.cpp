// Orders of convergence of all samplers on data whose perfect network is known, in double
// precision, from s = sigma / alpha = 5 to 0.05, with steps that are even in the solver's own
// variable. `test-sampler-orders "[print]"` prints the tables of docs/samplers.md.

#include "catch.hpp"
#include "exact_gaussian.hpp"
#include "generated_block.hpp"
#include "plan_numbers.hpp"
#include "sampler_zoo.hpp"

#include <diffusion/schedule/continuous.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <iostream>
#include <map>
#include <string>
#include <vector>

namespace {

using namespace diffusion;

constexpr double margin = 0.15;  // a measured order may be less than the theory's by this

struct Data {
  const char* name;
  numbers::Mixture law;
};

// The wide ones vary as slowly as the noise; the narrow ones are small against most of it.
const std::array<Data, 4>& all_data() {
  static const std::array<Data, 4> data = {{
      {"Gaussian", numbers::gaussian(0.4, 1)},
      {"mixture", numbers::Mixture{}},
      {"wide Gaussian", numbers::gaussian(0.4, 10)},
      {"wide mixture", numbers::Mixture{{0.4, 0.6}, {-1, 1.5}, {0.6, 1.0}}},
  }};
  return data;
}

/// The Gaussian and the mixture on which a method is held to its order. The error of some of order
/// four changes its sign within the window on the narrow data, which bends the line.
struct Held {
  std::size_t gaussian = 0, mixture = 1;
  bool on(std::size_t i) const { return i == gaussian || i == mixture; }
};

Held held(const std::string& name) {
  static const std::map<std::string, Held> others = {
      {"LMS 4", {2, 3}}, {"iPNDM", {2, 3}}, {"PLMS", {2, 3}}, {"PNDM", {2, 3}}, {"UniPC 3", {2, 1}},
  };
  const auto found = others.find(name);
  return found == others.end() ? Held{} : found->second;
}

struct Orders {
  std::string name;
  int order;
  Held held;
  std::array<numbers::Order, 4> exact, own;  // on each of the data
};

Orders measure(const zoo::Sampler& sampler) {
  const AnySchedule exploding{VarianceExploding()};
  const auto with = [&](const zoo::Plan& plan) {
    return [&sampler, &exploding, plan](int n) {
      const int steps = n * sampler.calls;
      const auto knots = sampler.even == zoo::Even::sigma ? numbers::even_in_s(steps)
                                                          : numbers::even_in_log(steps);
      return plan(Grid::through(knots), exploding);
    };
  };
  Orders orders{sampler.name, sampler.order, held(sampler.name), {}, {}};
  const zoo::Plan& history = sampler.with_history ? sampler.with_history : sampler.plan;
  for (std::size_t i = 0; i < all_data().size(); ++i) {
    const auto& law = all_data()[i].law;
    orders.exact[i] = numbers::order_of_plan(with(history), law, sampler.warm);
    orders.own[i] =
        sampler.warm == 0 ? orders.exact[i] : numbers::order_of_plan(with(sampler.plan), law);
  }
  return orders;
}

const std::vector<Orders>& all_orders() {
  static const std::vector<Orders> made = [] {
    std::vector<Orders> orders;
    for (const auto& sampler : zoo::samplers())
      if (sampler.order > 0) orders.push_back(measure(sampler));
    return orders;
  }();
  return made;
}

std::string rounded(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.2f", value);
  return text;
}

std::string order_table() {
  std::string text = "| sampler | order |";
  for (const Data& data : all_data()) text += " " + std::string(data.name) + " |";
  text += "\n|---|--:|--:|--:|--:|--:|\n";
  for (const Orders& one : all_orders()) {
    text += "| " + one.name + " | " + std::to_string(one.order) + " |";
    for (std::size_t i = 0; i < all_data().size(); ++i) {
      const std::string cell = rounded(one.exact[i].slope) + " / " + rounded(one.own[i].slope);
      text += one.held.on(i) ? " **" + cell + "** |" : " " + cell + " |";
    }
    text += "\n";
  }
  return text;
}

// Stochastic samplers.

constexpr int few = 32, some = 128, many = 512;

/// Samplers that do not come to the data's law, and why.
const std::map<std::string, const char*>& biased() {
  static const std::map<std::string, const char*> list = {
      {"LCM", "takes the posterior's mean for a consistency model's answer"},
      {"TCD", "takes the posterior's mean for a consistency model's answer"},
      {"consistency", "takes the posterior's mean for a consistency model's answer"},
      {"predictor-corrector", "Langevin steps of a size that does not fall with the steps'"},
  };
  return list;
}

struct Convergence {
  std::string name;
  std::array<double, 3> mean, variance;  // errors with few, some and many steps
};

Convergence converge(const zoo::Sampler& sampler) {
  const VpLinear schedule;
  const exact::Gaussian data;
  exact::Propagation propagation;
  Convergence made{sampler.name, {}, {}};
  std::size_t i = 0;
  for (const int steps : {few, some, many}) {
    std::vector<Knot> knots;
    for (const Knot& level : numbers::even_in_log(steps))
      knots.push_back(knot_at(schedule, schedule.time(level.log_snr())));
    const SamplingPlan plan = sampler.plan(Grid::through(knots), AnySchedule(schedule));
    const exact::Moments end = propagation.run(plan, PredictionType::epsilon, data);
    const exact::Moments goal = data.at(knots.back());
    made.mean[i] = std::abs(end.mean - goal.mean);
    made.variance[i++] = std::abs(end.variance - goal.variance);
  }
  return made;
}

const std::vector<Convergence>& all_convergence() {
  static const std::vector<Convergence> made = [] {
    std::vector<Convergence> list;
    for (const auto& sampler : zoo::samplers())
      if (sampler.order == 0) list.push_back(converge(sampler));
    return list;
  }();
  return made;
}

/// Two digits, or 0 where it is rounding.
std::string error_text(double error) {
  if (error < 1e-11) return "0";
  char text[32];
  std::snprintf(text, sizeof text, "%.1e", error);
  return text;
}

std::string convergence_table() {
  std::string text = "| sampler | mean, 32 steps | 128 | 512 | variance, 32 | 128 | 512 |\n";
  text += "|---|--:|--:|--:|--:|--:|--:|\n";
  for (const Convergence& one : all_convergence()) {
    text += "| " + one.name + " |";
    for (const double error : one.mean) text += " " + error_text(error) + " |";
    for (const double error : one.variance) text += " " + error_text(error) + " |";
    text += "\n";
  }
  return text;
}

}  // namespace

TEST_CASE("Every deterministic sampler has its order on a Gaussian and on a mixture") {
  for (const Orders& one : all_orders())
    for (const std::size_t i : {one.held.gaussian, one.held.mixture}) {
      INFO(one.name << " on a " << all_data()[i].name << ": " << one.exact[i].slope << " with "
                    << "exact history, " << one.own[i].slope << " with its own start");
      CHECK(one.exact[i].points >= 3);
      CHECK(one.own[i].points >= 3);
      CHECK(one.exact[i].slope >= one.order - margin);
      CHECK(one.own[i].slope >= std::min(one.order, 2) - margin);
    }
  INFO("test-sampler-orders \"[print]\" prints docs/samplers.md's table");
  CHECK(generated::block("samplers.md", "orders") == order_table());
}

TEST_CASE("Mean and variance of every stochastic sampler converge to the data's") {
  for (const Convergence& one : all_convergence()) {
    CAPTURE(one.name, one.mean, one.variance);
    if (biased().count(one.name) > 0) {
      CHECK(one.variance[2] > 1e-3);
      continue;
    }
    // A quarter of the length of the steps: at least half of the error goes, or it is rounding.
    for (const auto& errors : {one.mean, one.variance})
      for (std::size_t i = 0; i + 1 < errors.size(); ++i)
        CHECK((errors[i + 1] < 0.5 * errors[i] || errors[i + 1] < 1e-11));
    CHECK(one.mean[2] < 0.01);
    CHECK(one.variance[2] < 0.02);
  }
  INFO("test-sampler-orders \"[print]\" prints docs/samplers.md's table");
  CHECK(generated::block("samplers.md", "stochastic") == convergence_table());
}

TEST_CASE("The tables, printed", "[.print]") {
  const auto print = [](const char* name, const std::string& text) {
    std::cout << "<!-- " << name << ": made by tests/test_sampler_orders.cpp -->\n"
              << text << "<!-- end of " << name << " -->\n\n";
  };
  print("orders", order_table());
  print("stochastic", convergence_table());
}
