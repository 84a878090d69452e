// Every option of every public struct, below and above its range: the message holds the value and
// the limit. Likewise shapes, tables and counts.
#include "catch.hpp"

#include <diffusion/diffusion.hpp>

#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <vector>

using namespace diffusion;

namespace {

using Image = Eigen::Tensor<float, 4, Eigen::RowMajor>;
constexpr double nan = std::numeric_limits<double>::quiet_NaN();
constexpr double infinity = std::numeric_limits<double>::infinity();

struct Row {
  std::string what;
  std::function<void()> act;
  std::vector<std::string> says;  // each must stand in the message
};

const NoiseSchedule<> schedule = NoiseSchedule<>::linear();

void network(const Image& x, double, Image& out) { out = x; }

void make(NoiseScheduleOptions options) { NoiseSchedule<>::linear(options); }
void make_float(NoiseScheduleOptions options) { NoiseSchedule<float>::linear(options); }
void plan(DdimOptions options) { DdimSampler{schedule, options}.plan(); }
void plan(DdpmOptions options) { DdpmSampler{schedule, options}.plan(); }
void plan(DdimInverseOptions options) { DdimInverseSampler{schedule, options}.plan(); }
void grid(GridOptions options, int steps = 10) { make_grid(schedule, steps, options); }
void clip(Clipping clipping) { plan(DdimOptions{.clipping = clipping}); }
Grid steps(const GridStep& step) { return Grid(std::vector<GridStep>{step}); }
void rows(Stage row) { SamplingPlan({row}, {}); }

void run(const ShapeOf<Image>& shape) {
  sample<Image>(DdimSampler{schedule, {.steps = 2}}, network, shape, PhiloxNoise{1});
}

void guide(int conditions, GuidanceOptions options = {.scale = 2}) {
  const auto conditional = [](const Image& x, double, const Conditions<int>&, Image& out) {
    out = x;
  };
  ClassifierFreeGuidance guided(conditional, std::vector<int>(static_cast<std::size_t>(conditions)),
                                0, options);
  sample<Image>(DdimSampler{schedule, {.steps = 2}}, guided, {4, 1, 2, 2}, PhiloxNoise{1});
}

void forward(std::vector<double> timesteps, Eigen::Index width = 2) {
  const ForwardDiffusion<> process{schedule};
  const Image x0(2, 1, 2, 2), eps(2, 1, 2, width);
  process.add_noise(x0, eps, timesteps);
}

const std::vector<Row> table = {
    // noise schedules
    {"train_timesteps below",
     [] { make({.train_timesteps = 0}); },
     {"train_timesteps is 0", "[1, "}},
    {"train_timesteps above", [] { make({.train_timesteps = 1000001}); }, {"1000001", "1000000]"}},
    {"beta_start below", [] { make({.beta_start = 0}); }, {"beta_start is 0", "between 0 and 1"}},
    {"beta_start above", [] { make({.beta_start = 1}); }, {"beta_start is 1", "between 0 and 1"}},
    {"beta_start nan", [] { make({.beta_start = nan}); }, {"beta_start is nan", "between 0 and 1"}},
    {"beta_end below", [] { make({.beta_end = -0.5}); }, {"beta_end is -0.5", "between 0 and 1"}},
    {"beta_end above", [] { make({.beta_end = 1.5}); }, {"beta_end is 1.5", "between 0 and 1"}},
    {"max_beta below", [] { make({.max_beta = 0}); }, {"max_beta is 0", "above 0"}},
    {"max_beta above", [] { make({.max_beta = 1.1}); }, {"max_beta is 1.1", "at most 1"}},
    {"snr shift below",
     [] { make({.snr_shift_scale = 0}); },
     {"snr_shift_scale is 0", "between 0"}},
    {"snr shift above",
     [] { make({.snr_shift_scale = infinity}); },
     {"is inf", "strictly between"}},
    {"terminal below",
     [] { make({.rescale_zero_terminal_snr = true, .terminal_alpha_cumprod = -1}); },
     {"terminal_alpha_cumprod is -1", "[0, 1]"}},
    {"terminal above",
     [] { make({.rescale_zero_terminal_snr = true, .terminal_alpha_cumprod = 2}); },
     {"terminal_alpha_cumprod is 2", "[0, 1]"}},
    {"float table", [] { make_float({.beta_start = 2}); }, {"beta_start is 2", "between 0 and 1"}},
    {"beta schedule",
     [] { NoiseSchedule<>::make(static_cast<BetaSchedule>(9)); },
     {"is 9", "[0, 8]"}},
    {"own beta nan",
     [] {
       NoiseSchedule<>::from_betas({0.1, nan});
     },
     {"nan", "1"}},
    {"own beta above",
     [] {
       NoiseSchedule<>::from_betas({0.1, 0.2, 1.5});
     },
     {"1.5", "2"}},
    {"own beta below", [] { NoiseSchedule<>::from_betas({-0.25}); }, {"-0.25", "0"}},
    {"own betas empty", [] { NoiseSchedule<>::from_betas({}); }, {"0", "1"}},
    {"own products rising",
     [] {
       NoiseSchedule<>::from_alphas_cumprod({0.5, 0.75});
     },
     {"0.75", "0.5"}},
    {"own products above",
     [] {
       NoiseSchedule<>::from_alphas_cumprod({1.25, 0.5});
     },
     {"1.25", "1"}},
    {"schedule time below", [] { schedule.alpha(-1); }, {"-1", "[0, 999]"}},
    {"schedule time above", [] { schedule.alpha(1000); }, {"1000", "[0, 999]"}},
    // continuous schedules
    {"beta_min below", [] { VpLinear{{.beta_min = -1}}; }, {"beta_min is -1", "[0, "}},
    {"beta_max below",
     [] { VpLinear{{.beta_min = 2, .beta_max = 1}}; },
     {"beta_max is 1", "between 2"}},
    {"beta_max above",
     [] { VpLinear{{.beta_max = infinity}}; },
     {"beta_max is inf", "between 0.1"}},
    {"VP time below", [] { VpLinear{}.alpha(-0.25); }, {"-0.25", "[0, 1]"}},
    {"VP time above", [] { VpLinear{}.sigma(1.25); }, {"1.25", "[0, 1]"}},
    {"cosine s below", [] { VpCosine{{.s = -0.5}}; }, {"s is -0.5", "[0, 1]"}},
    {"cosine s above", [] { VpCosine{{.s = 1.5}}; }, {"s is 1.5", "[0, 1]"}},
    {"sigma_min below",
     [] { VarianceExploding{{.sigma_min = 0}}; },
     {"sigma_min is 0", "between 0"}},
    {"sigma_max below",
     [] { VarianceExploding{{.sigma_min = 2, .sigma_max = 2}}; },
     {"sigma_max is 2", "between 2"}},
    {"time_scale below",
     [] { RectifiedFlow{{.time_scale = 0}}; },
     {"time_scale is 0", "between 0"}},
    // timesteps and grids
    {"steps below", [] { plan(DdimOptions{.steps = 0}); }, {"steps is 0", "[1, 1000]"}},
    {"steps above", [] { plan(DdimOptions{.steps = 1001}); }, {"steps is 1001", "[1, 1000]"}},
    {"ddpm steps below", [] { plan(DdpmOptions{.steps = -3}); }, {"steps is -3", "[1, 1000]"}},
    {"ddpm steps above", [] { plan(DdpmOptions{.steps = 2000}); }, {"steps is 2000", "[1, 1000]"}},
    {"inverse steps", [] { plan(DdimInverseOptions{.steps = 0}); }, {"steps is 0", "[1, 1000]"}},
    {"steps_offset below", [] { grid({.steps_offset = -1}); }, {"steps_offset is -1", "[0, "}},
    {"steps_offset above", [] { grid({.steps_offset = 1000}); }, {"steps_offset is 1000", "999]"}},
    {"steps_offset pushes out",
     [] { grid({.steps_offset = 1}, 1000); },
     {"steps_offset is 1", "999"}},
    {"spacing", [] { grid({.spacing = static_cast<TimestepSpacing>(4)}); }, {"is 4", "[0, 3]"}},
    {"previous", [] { grid({.previous = static_cast<PreviousTimestep>(2)}); }, {"is 2", "[0, 1]"}},
    {"own timestep below",
     [] {
       grid({.timesteps = {5, -1}});
     },
     {"timesteps[1] is -1", "[0, 999]"}},
    {"own timestep above",
     [] { grid({.timesteps = {1000}}); },
     {"timesteps[0] is 1000", "[0, 999]"}},
    {"own timesteps rise",
     [] {
       grid({.timesteps = {5, 6}});
     },
     {"timesteps[1] is 6", "less than", "5"}},
    {"own timestep nan", [] { grid({.timesteps = {nan}}); }, {"timesteps[0] is nan", "[0, 999]"}},
    {"pair from above",
     [] {
       grid({.pairs = {{1000, 5}}});
     },
     {"pairs[0] is 1000", "[0, 999]"}},
    {"pair to above",
     [] {
       grid({.pairs = {{5, 1000}}});
     },
     {"pairs[0] is 1000", "at most 999"}},
    {"pair stands",
     [] {
       grid({.pairs = {{5, 5}}});
     },
     {"pairs[0] is 5", "differ"}},
    {"both lists",
     [] {
       grid({.timesteps = {5, 3}, .pairs = {{5, 3}}});
     },
     {"2 entries", "1 pairs"}},
    {"empty grid", [] { Grid(std::vector<GridStep>{}); }, {"0 steps", "at least 1"}},
    {"cut below", [] { make_grid(schedule, 10).cut(-1); }, {"is -1", "[0, 9]"}},
    {"cut above", [] { make_grid(schedule, 10).cut(10); }, {"is 10", "[0, 9]"}},
    {"negative sigma",
     [] {
       steps({{1, 1, -0.5}, {0, 1, 0}});
     },
     {"sigma", "-0.5", "at least 0"}},
    {"nan alpha",
     [] {
       steps({{1, nan, 0.5}, {0, 1, 0}});
     },
     {"alpha", "nan", "finite"}},
    // samplers and plans
    {"eta below", [] { plan(DdimOptions{.eta = -0.5}); }, {"eta is -0.5", "[0, 1]"}},
    {"eta above", [] { plan(DdimOptions{.eta = 1.5}); }, {"eta is 1.5", "[0, 1]"}},
    {"eta nan", [] { plan(DdimOptions{.eta = nan}); }, {"eta is nan", "[0, 1]"}},
    {"variance",
     [] { plan(DdpmOptions{.variance = static_cast<VarianceType>(6)}); },
     {"is 6", "[0, 5]"}},
    {"epsilon rule",
     [] { plan(DdimOptions{.epsilon = static_cast<EpsilonRule>(2)}); },
     {"is 2", "[0, 1]"}},
    {"inversion time",
     [] { plan(DdimInverseOptions{.time = static_cast<InversionTime>(2)}); },
     {"is 2", "[0, 1]"}},
    {"clip limit below", [] { clip(Clipping::range(0)); }, {"limit is 0", "positive"}},
    {"clip limit above", [] { clip(Clipping::range(infinity)); }, {"limit is inf", "finite"}},
    {"clip ratio below", [] { clip(Clipping::dynamic(-0.5)); }, {"ratio is -0.5", "[0, 1]"}},
    {"clip ratio above", [] { clip(Clipping::dynamic(1.5)); }, {"ratio is 1.5", "[0, 1]"}},
    {"clip maximum below",
     [] { clip(Clipping::dynamic(0.9, 0)); },
     {"maximum is 0", "positive"}},
    {"clip kind", [] { clip({.kind = static_cast<Clipping::Kind>(3)}); }, {"is 3", "[0, 2]"}},
    {"initial scale below",
     [] { SamplingPlan({Stage{}}, {.initial_scale = -1}); },
     {"is -1", "[0, 1000000]"}},
    {"initial scale above",
     [] { SamplingPlan({Stage{}}, {.initial_scale = 1e7}); },
     {"10000000", "[0, 1000000]"}},
    {"empty plan", [] { SamplingPlan({}, {}); }, {"0 stages", "at least 1"}},
    {"weight nan", [] { rows({.x0 = nan}); }, {"stage 0", "nan"}},
    {"draws below", [] { rows({.draws = -1}); }, {"-1 draws", "at least 0"}},
    {"estimate never made",
     [] {
       rows({.history = {Term{0, 1.0}}});
     },
     {"estimate 0", "0 have been made"}},
    {"draw never made",
     [] {
       rows({.noise = {Term{1, 1.0}}, .draws = 1});
     },
     {"draw 1", "1 have been"}},
    {"weighs without asking", [] { rows({.ask = false, .x0 = 1}); }, {"stage 0", "does not ask"}},
    {"ddpm from clean data",
     [] {
       make_plan(steps({{1, 1, 0}, {0, 1, 0}}), DdpmOptions{});
     },
     {"sigma = 0", "sigma > 0"}},
    {"epsilon at zero SNR",
     [] {
       const auto zero = NoiseSchedule<>::linear({.rescale_zero_terminal_snr = true});
       sample<Image>(
           DdimSampler{zero, {.steps = 2, .grid = {.spacing = TimestepSpacing::trailing}}}, network,
           {1, 1, 2, 2}, PhiloxNoise{1});
     },
     {"x0 is undefined", "epsilon", "alpha = 0"}},
    {"x0 of clean data",
     [] {
       Image x(1, 1, 2, 2);
       x.setZero();
       sample_in_place(DdimInverseSampler{schedule, {.steps = 2}}, network, x, PhiloxNoise{1},
                       {.prediction_type = PredictionType::sample});
     },
     {"eps is undefined", "sample", "sigma = 0"}},
    {"prediction type",
     [] {
       conversion(static_cast<PredictionType::Kind>(7), {1, 0.5, 0.5});
     },
     {"number 7", "0 to 6"}},
    {"score of clean data",
     [] {
       target(PredictionType::score, {0, 1, 0});
     },
     {"sigma is 0", "positive"}},
    // runs
    {"no batch",
     [] {
       run({0, 1, 2, 2});
     },
     {"0x1x2x2", "at least 1"}},
    {"no width",
     [] {
       run({1, 1, 2, 0});
     },
     {"1x1x2x0", "at least 1"}},
    {"negative width",
     [] {
       run({1, 1, 2, -2});
     },
     {"1x1x2x-2", "at least 1"}},
    {"more elements than can be counted",  // 2^64, which is 0 in 64 bits
     [] {
       run({Eigen::Index{1} << 32, Eigen::Index{1} << 32, 1, 1});
     },
     {"4294967296x4294967296x1x1", "than memory has"}},
    {"network changes its output",
     [] {
       const auto wrong = [](const Image&, double, Image& out) { out = Image(1, 1, 1, 1); };
       sample<Image>(DdimSampler{schedule, {.steps = 2}}, wrong, {1, 1, 2, 2}, PhiloxNoise{1});
     },
     {"1 elements", "4"}},
    {"not finite",
     [] {
       const auto broken = [](const Image& x, double, Image& out) { out = x.constant(NAN); };
       sample<Image>(DdimSampler{schedule, {.steps = 2}}, broken, {1, 1, 2, 2}, PhiloxNoise{1});
     },
     {"not finite", "stage 1 of 2", "1 network calls"}},
    {"recorded noise runs out",
     [] {
       RecordedNoise noise{{std::vector<double>(4, 0.5)}};
       sample<Image>(DdimSampler{schedule, {.steps = 3, .eta = 1}}, network, {1, 1, 2, 2}, noise);
     },
     {"4 noise tensors", "1 of 1"}},
    {"recorded noise of another size",
     [] {
       RecordedNoise noise{{std::vector<double>(5, 0.5)}};
       sample<Image>(DdimSampler{schedule, {.steps = 3}}, network, {1, 1, 2, 2}, noise);
     },
     {"holds 5", "takes 4"}},
    // noise, guidance, forward process, quantiles
    {"first_sample above", [] { PhiloxNoise(1, 1ull << 48); }, {"first_sample is 281474976710656"}},
    {"too few conditions", [] { guide(3); }, {"3 conditions", "batch of 4"}},
    {"too many conditions", [] { guide(5); }, {"5 conditions", "batch of 4"}},
    {"scale nan", [] { guide(4, {.scale = nan}); }, {"scale is nan", "finite"}},
    {"scale inf", [] { guide(4, {.scale = infinity}); }, {"scale is inf", "finite"}},
    {"rescale below", [] { guide(4, {.rescale = -0.5}); }, {"rescale is -0.5", "[0, 1]"}},
    {"rescale above", [] { guide(4, {.rescale = 1.5}); }, {"rescale is 1.5", "[0, 1]"}},
    {"guidance calls",
     [] { guide(4, {.calls = static_cast<GuidanceCalls>(2)}); },
     {"is 2", "[0, 1]"}},
    {"timesteps per sample",
     [] {
       forward({1, 2, 3});
     },
     {"3 timesteps", "batch of 2"}},
    {"forward timestep below",
     [] {
       forward({-2, 1});
     },
     {"-2", "[0, 999]"}},
    {"forward timestep above",
     [] {
       forward({1, 1000});
     },
     {"1000", "[0, 999]"}},
    {"forward shapes",
     [] {
       forward({1, 2}, 3);
     },
     {"2x1x2x3", "2x1x2x2"}},
    {"kernel runs backwards", [] { ForwardDiffusion<>{schedule}.step(5, 3); }, {"s = 5", "t = 3"}},
    {"posterior stands", [] { ForwardDiffusion<>{schedule}.posterior(3, 3); }, {"s = 3", "t = 3"}},
    {"quantile below",
     [] {
       std::vector<float> v{1, 2};
       quantile(std::span<float>(v), -0.5);
     },
     {"-0.5", "[0, 1]"}},
    {"quantile above",
     [] {
       std::vector<float> v{1, 2};
       quantile(std::span<float>(v), 1.5);
     },
     {"1.5", "[0, 1]"}},
    {"quantile of nothing", [] { quantile(std::span<float>(), 0.5); }, {"0 values", "at least 1"}},
};

}  // namespace

TEST_CASE("bad input is refused with the value and the limit") {
  REQUIRE(table.size() >= 60);
  for (const Row& row : table) {
    INFO(row.what);
    std::string message = "nothing was thrown";
    try {
      row.act();
    } catch (const Error& error) {
      message = error.what();
    }
    for (const std::string& part : row.says) CHECK_THAT(message, contains(part));
  }
}
