// Edits in the loop: when each member is called and what it sees, that a changed x0 is what the
// sampler goes on with whatever the network predicts and however the plan clips, on states of every
// kind, and that a loop without edits allocates nothing.

#include "catch.hpp"
#include "refusals.hpp"
#include "support.hpp"

#include <diffusion/denoiser/estimate.hpp>
#include <diffusion/denoiser/wrapped.hpp>
#include <diffusion/noise/philox.hpp>
#include <diffusion/noise/recorded.hpp>
#include <diffusion/samplers/ddim.hpp>
#include <diffusion/samplers/dpm_solver.hpp>
#include <diffusion/samplers/euler.hpp>
#include <diffusion/samplers/heun.hpp>
#include <diffusion/samplers/lcm.hpp>
#include <diffusion/sampling/sample.hpp>
#include <diffusion/schedule/noise_schedule.hpp>

#include <unsupported/Eigen/CXX11/Tensor>

#include <atomic>
#include <cmath>
#include <cstddef>
#include <cstdlib>
#include <limits>
#include <new>
#include <span>
#include <string>
#include <vector>

namespace {
std::atomic<long> allocations = 0;
}
// Not inlined, lest the compiler takes free for the wrong partner of new.
[[gnu::noinline]] void* operator new(std::size_t size) {
  ++allocations;
  if (void* memory = std::malloc(size)) return memory;
  throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }

using namespace diffusion;

namespace {

using Points = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

const auto linear = NoiseSchedule<>::linear();
const auto network = [](const Points& x, double t, Points& out) {
  out = (1.3 * x.array() + 0.002 * t).sin();
};

Points start(double scale = 1) {
  support::Random random(5);
  Points x(3, 4);
  for (Eigen::Index i = 0; i < x.size(); ++i) x.data()[i] = scale * random.normal();
  return x;
}

DdimSampler<NoiseSchedule<>> ddim(int steps, double eta = 0, Clipping clipping = {}) {
  return DdimSampler(linear, {.steps = steps, .eta = eta, .clipping = clipping});
}

/// x0 times a factor.
struct Scale {
  double factor;
  template <class Run, class Tensor>
  void edit_x0(const Run&, Tensor& x0) {
    using S = ScalarOf<Tensor>;
    S* data = StateTraits<Tensor>::data(x0);
    const std::size_t n = blocks_of<Tensor>(StateTraits<Tensor>::shape(x0), false).total();
    for (std::size_t i = 0; i < n; ++i)
      data[i] = static_cast<S>(factor * static_cast<double>(data[i]));
  }
};

/// The same as a denoiser made of a denoiser.
template <class Inner>
struct Scaled : WrappedDenoiser<Inner> {
  double factor;
  Scaled(Inner inner, double by) : WrappedDenoiser<Inner>(std::move(inner)), factor(by) {}
  void operator()(const Points& x, const Query& query, Points& out) {
    ask(this->inner(), x, query, out);
    const auto n = static_cast<std::size_t>(x.size());
    Points x0(x.rows(), x.cols());
    estimate_x0(query, x.data(), out.data(), n, x0.data());
    x0 *= factor;
    prediction_from_x0(query, x.data(), x0.data(), n, out.data());
  }
};

}  // namespace

// ---- when and what ---------------------------------------------------------------------------

namespace {

struct Log {
  std::string name;
  std::vector<std::string>& lines;

  template <class Run, class T>
  void edit_start(const Run& run, T& x) {
    lines.push_back(name + " start " + std::to_string(run.stage_number()));
    x(0, 0) = 7;
  }
  template <class Run, class Tensor>
  void edit_x0(const Run& run, Tensor& x0) {
    lines.push_back(name + " x0 " + std::to_string(run.stage_number()));
    seen.push_back(x0(0, 0));
    x0(0, 0) += 1;
  }
  template <class Run, class T>
  void edit_state(const Run& run, T& x) {
    lines.push_back(name + " state " + std::to_string(run.stage_number()));
    levels.push_back(run.last().to);
    CHECK(&run.last() == &run.plan().stages[static_cast<std::size_t>(run.stage_number() - 1)]);
    x(0, 0) = 0.25;
  }
  std::vector<double> seen{};
  std::vector<Knot> levels{};
};

}  // namespace

TEST_CASE("Edits act in the order given: start, then x0, callbacks and state at every stage") {
  std::vector<std::string> lines;
  Log a{"a", lines}, b{"b", lines};
  std::vector<double> previewed, entered;
  const auto callback = [&](const auto& run) {
    lines.push_back("callback " + std::to_string(run.stage_number()));
    previewed.push_back(run.preview()(0, 0));
    entered.push_back(run.state()(0, 0));
  };
  Points x = start();
  const auto sampler = ddim(2);
  sample_in_place(sampler, network, x, PhiloxNoise{1}, {}, a, callback, b);
  CHECK(lines == std::vector<std::string>{"a start 0", "b start 0", "a x0 0", "b x0 0",
                                          "callback 0", "a state 1", "b state 1", "a x0 1",
                                          "b x0 1", "callback 1", "a state 2", "b state 2"});
  CHECK(x(0, 0) == 0.25);
  CHECK(entered == std::vector<double>{7, 0.25});  // what start and state have written
  for (std::size_t i = 0; i < 2; ++i) {
    CHECK(b.seen[i] == a.seen[i] + 1);             // the second sees what the first has left ...
    CHECK(previewed[i] == Approx(a.seen[i] + 2));  // ... and callbacks what both have
  }
  CHECK(a.levels == std::vector<Knot>{sampler.grid()[0].to, sampler.grid()[1].to});
}

namespace {

struct Count {
  int &edited, &stages;
  template <class Run>
  void edit_x0(const Run&, Points&) {
    ++edited;
  }
  template <class Run>
  void edit_state(const Run&, Points&) {
    ++stages;
  }
};

}  // namespace

TEST_CASE("At a stage that does not ask there is no x0 to edit") {
  // Heun's churn moves without asking.
  const HeunSampler sampler(linear, {.steps = 4, .churn = {.amount = 2}});
  const SamplingPlan plan = sampler.plan();
  int edited = 0, stages = 0;
  Points x = start(plan.traits().initial_scale);
  sample_in_place(plan, network, x, PhiloxNoise{1}, {}, Count{edited, stages});
  CHECK(plan.network_calls() < plan.size());
  CHECK(edited == plan.network_calls());
  CHECK(stages == plan.size());
}

TEST_CASE("An edit that does nothing to x0 changes nothing but rounding") {
  const auto sampler = DpmSolverSampler(linear, {.steps = 12});
  Points plain = start(), edited = start();
  sample_in_place(sampler, network, plain, PhiloxNoise{1});
  sample_in_place(sampler, network, edited, PhiloxNoise{1}, {}, Scale{1});
  CHECK((plain - edited).cwiseAbs().maxCoeff() < 1e-10);
}

// ---- the changed x0 --------------------------------------------------------------------------

TEST_CASE("What the sampler goes on with is the edited x0, for every prediction type") {
  for (const PredictionType& type : all_prediction_types)
    for (const bool clips : {false, true}) {
      INFO(name(type) << (clips ? ", clipped" : ""));
      const Clipping clipping = clips ? Clipping::range(0.5) : Clipping::none();
      const auto sampler = ddim(6, 0, clipping);
      Points x = start(), expected = start();
      sample_in_place(sampler, network, x, PhiloxNoise{1}, {.prediction_type = type}, Scale{1.5});
      // By hand: x0 from the definitions, clipped, edited, clipped again.
      const SamplingPlan plan = sampler.plan();
      for (const Stage& stage : plan.stages()) {
        Points f;
        f.resize(expected.rows(), expected.cols());
        network(expected, stage.at.t, f);
        for (Eigen::Index i = 0; i < expected.size(); ++i) {
          double& at = expected.data()[i];
          const double limit = clips ? 0.5 : 1e300;
          double x0 = support::estimates(type, stage, at, f.data()[i]).x0;
          x0 = 1.5 * std::clamp(x0, -limit, limit);
          x0 = std::clamp(x0, -limit, limit);
          const double eps = (at - stage.at.alpha * x0) / stage.at.sigma;
          at = stage.to.alpha * x0 + stage.to.sigma * eps;
        }
      }
      CHECK((x - expected).cwiseAbs().maxCoeff() <
            1e-8 * std::max(1.0, expected.cwiseAbs().maxCoeff()));
    }
}

TEST_CASE("Editing x0 is the same as wrapping the denoiser, for every kind of sampler") {
  const auto check = [](const auto& sampler, PredictionType type) {
    const SampleOptions options{.prediction_type = type};
    const SamplingPlan plan = sampler.plan();
    Points edited = start(plan.traits().initial_scale), wrapped = edited;
    Points halved = edited;
    sample_in_place(plan, network, edited, PhiloxNoise{1}, options, Scale{0.8});
    sample_in_place(plan, Scaled{network, 0.8}, wrapped, PhiloxNoise{1}, options);
    sample_in_place(plan, Scaled{network, 0.64}, halved, PhiloxNoise{1}, options);
    CHECK((edited - wrapped).cwiseAbs().maxCoeff() < 1e-9);
    CHECK((edited - halved).cwiseAbs().maxCoeff() > 1e-3);
    Points twice = start(plan.traits().initial_scale);
    sample_in_place(plan, network, twice, PhiloxNoise{1}, options, Scale{0.8}, Scale{0.8});
    CHECK((twice - halved).cwiseAbs().maxCoeff() < 1e-9);
  };
  for (const PredictionType& type :
       {PredictionType::epsilon, PredictionType::v, PredictionType::flow}) {
    check(ddim(8), type);
    check(EulerAncestralSampler(linear, {.steps = 8}), type);
    check(DpmSolverSampler(linear, {.steps = 8}), type);
    check(HeunSampler(linear, {.steps = 8}), type);
    check(LcmSampler(linear, {.steps = 4}), type);
  }
}

// ---- noise -----------------------------------------------------------------------------------

namespace {

/// Takes the stage's noise out of the state again.
struct TakeNoiseOut {
  std::vector<double> drawn;
  template <class Run>
  void edit_state(const Run& run, Points& x) {
    const Term& term = run.last().noise[0];
    if (term.source < 0) return;
    std::vector<double> draw(static_cast<std::size_t>(x.cols()));
    for (Eigen::Index i = 0; i < x.rows(); ++i) {
      run.fill_draw(0, static_cast<std::size_t>(i), 0, draw);
      for (Eigen::Index j = 0; j < x.cols(); ++j) {
        x(i, j) -= term.weight * draw[static_cast<std::size_t>(j)];
        drawn.push_back(draw[static_cast<std::size_t>(j)]);
      }
    }
  }
};

}  // namespace

TEST_CASE("The draws of the stage that was run are at hand, from either kind of source") {
  const auto sampler = ddim(5, 1);
  const SamplingPlan plan = sampler.plan();
  // Without its noise the row is its deterministic part.
  std::vector<Stage> rows(plan.stages().begin(), plan.stages().end());
  for (Stage& row : rows) {
    row.noise = {};
    row.draws = 0;
  }
  Points expected = start();
  sample_in_place(SamplingPlan(rows, plan.traits()), network, expected, PhiloxNoise{1});

  TakeNoiseOut by_address{}, in_order{};
  Points x = start();
  sample_in_place(plan, network, x, PhiloxNoise{3}, {}, by_address);
  CHECK((x - expected).cwiseAbs().maxCoeff() < 1e-12);
  CHECK(by_address.drawn.size() == 12u * 4u);  // the last step adds none

  support::Random random(9);
  std::vector<std::vector<double>> tensors;
  for (int i = 0; i < plan.draws(); ++i) tensors.push_back(random.normals(12));
  RecordedNoise recorded(tensors);
  x = start();
  sample_in_place(plan, network, x, recorded, {}, in_order);
  CHECK((x - expected).cwiseAbs().maxCoeff() < 1e-12);
  for (std::size_t i = 0; i < in_order.drawn.size(); ++i)
    CHECK(in_order.drawn[i] == tensors[i / 12][i % 12]);
}

// ---- states ----------------------------------------------------------------------------------

namespace {

struct Both {
  template <class Run, class Tensor>
  void edit_x0(const Run&, Tensor& x0) {
    StateTraits<Tensor>::data(x0)[1] = ScalarOf<Tensor>(0.5f);
  }
  template <class Run, class T>
  void edit_state(const Run&, T& x) {
    StateTraits<T>::data(x)[0] = ScalarOf<T>(0.125f);
  }
};

/// The two elements that the edits have set, of six.
template <class T>
void check_edited(T&& x) {
  using State = std::remove_cvref_t<T>;
  using S = ScalarOf<State>;
  const auto raw = [](const S* from, double t, S* to, const auto& shape) {
    std::size_t n = 1;
    for (const auto extent : shape) n *= static_cast<std::size_t>(extent);
    for (std::size_t i = 0; i < n; ++i)
      to[i] = static_cast<S>(0.3f * static_cast<float>(from[i]) + 0.0001f * static_cast<float>(t));
  };
  sample_in_place(ddim(4), raw, x, PhiloxNoise{1}, {}, Both{});
  const S* data = StateTraits<State>::data(x);
  CHECK(static_cast<double>(data[0]) == 0.125);
  CHECK(static_cast<double>(data[1]) == Approx(0.5).margin(1e-2));
}

}  // namespace

TEST_CASE("Edits act on states of every kind") {
  check_edited(Eigen::Tensor<float, 3, Eigen::RowMajor>(1, 2, 3).setConstant(1));
  check_edited(std::vector<double>(6, 1.0));
  std::vector<float> memory(6, 1.0f);
  check_edited(std::span<float>(memory));
  check_edited(Eigen::Map<Eigen::Matrix<float, 2, 3, Eigen::RowMajor>>(memory.data()));
  Eigen::Tensor<Eigen::half, 2, Eigen::RowMajor> half(2, 3);
  half.setConstant(Eigen::half(1));
  check_edited(half);
}

// ---- ends ------------------------------------------------------------------------------------

namespace {

struct WriteNan {
  int at;
  template <class Run, class T>
  void edit_state(const Run& run, T& x) {
    if (run.stage_number() == at) x(1, 1) = std::numeric_limits<double>::quiet_NaN();
  }
};
struct WriteNanX0 {
  template <class Run, class Tensor>
  void edit_x0(const Run& run, Tensor& x0) {
    if (run.stage_number() == 1) x0(1, 1) = std::numeric_limits<double>::quiet_NaN();
  }
};

}  // namespace

TEST_CASE("An edit that writes a NaN ends the run as not finite") {
  Points x = start();
  SampleResult result = sample_in_place(ddim(5), network, x, PhiloxNoise{1}, {}, WriteNan{3});
  CHECK(result.status == Status::not_finite);
  CHECK(result.stage == 3);
  CHECK(x(1, 1) != x(1, 1));
  x = start();
  result = sample_in_place(ddim(5), network, x, PhiloxNoise{1}, {}, WriteNanX0{});
  CHECK(result.status == Status::not_finite);
  CHECK(result.stage == 2);
  x = start();
  result =
      sample_in_place(ddim(5), network, x, PhiloxNoise{1}, {.check_finite = false}, WriteNan{3});
  CHECK(result.status == Status::done);
}

TEST_CASE("What a run refuses to an edit") {
  const auto sampler = ddim(3);
  const SamplingPlan plan = sampler.plan();
  Stepper run(plan, start(), PhiloxNoise{1});
  network(run.input(), run.timestep(), run.output());
  std::vector<double> draw(4);
  check_refusals({
      {"last at the start", [&] { run.last(); }, {"the run is at its start"}},
      {"x0 of another shape",
       [&] { run.set_x0(Points::Zero(2, 4)); },
       {"x0 has the shape 2x4", "that of the state is 3x4"}},
  });
  run.advance();
  check_refusals({
      {"no noise", [&] { run.fill_draw(0, 0, 0, draw); }, {"has no noise term 0"}},
  });
  const SamplingPlan noisy = ddim(3, 1).plan();
  Stepper other(noisy, start(), PhiloxNoise{1});
  network(other.input(), other.timestep(), other.output());
  other.advance();
  check_refusals({
      {"no such sample",
       [&] { other.fill_draw(0, 3, 0, draw); },
       {"of sample 3", "3 samples of 4"}},
      {"beyond the sample", [&] { other.fill_draw(0, 0, 1, draw); }, {"elements 1 to 5"}},
      {"no such term", [&] { other.fill_draw(2, 0, 0, draw); }, {"has no noise term 2"}},
  });
}

namespace {

struct SetFirst {
  template <class Run>
  void edit_state(const Run&, Points& x) {
    x(0, 0) = 0;
  }
};

}  // namespace

TEST_CASE("A loop without edits, and one with edits of the state, allocates nothing") {
  const auto sampler = DpmSolverSampler(linear, {.steps = 20, .eta = 1});
  const SamplingPlan plan = sampler.plan();
  const auto allocated = [&](auto&&... edits) {
    Points x = start();
    long first = 0;
    bool begun = false;
    sample_in_place(
        plan, network, x, PhiloxNoise{1}, {},
        [&](const auto&) {
          if (!begun) first = allocations;
          begun = true;
        },
        edits...);
    return allocations - first;
  };
  const long before = allocations;
  CHECK(std::vector<int>(3).size() == 3);
  CHECK(allocations > before);  // they are counted
  CHECK(allocated() == 0);
  CHECK(allocated(SetFirst{}) == 0);
}
