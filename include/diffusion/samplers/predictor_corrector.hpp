#ifndef DIFFUSION_SAMPLERS_PREDICTOR_CORRECTOR_HPP
#define DIFFUSION_SAMPLERS_PREDICTOR_CORRECTOR_HPP

#include <diffusion/error.hpp>
#include <diffusion/samplers/exponential_step.hpp>
#include <diffusion/samplers/sampler.hpp>

#include <algorithm>
#include <cstddef>
#include <functional>
#include <span>
#include <utility>
#include <vector>

/// The exponential Adams method with predictor and corrector that UniPC and SA-Solver are.
namespace diffusion::detail {

/// What a line through two estimates is integrated to over a step (see ExponentialStep).
enum class LineMoment {
  exact,         ///< phi_2
  half,          ///< 1/2, its limit for short steps: UniPC with B1(h), SA-Solver's own code
  half_average,  ///< phi_1 / 2: UniPC with B2(h)
};

/// The predictor puts the polynomial through the newest estimates into the step's integral, the
/// corrector the one through the estimate at its own result too. Both give state and noise the same
/// weights, so the corrected state is x' + sum (c_j - p_j) estimate_j: written into the next row,
/// it is never formed, and needs neither a second result nor a saved state.
struct PredictorCorrector {
  SolverForm form = SolverForm::data;
  LineMoment line = LineMoment::exact;
  int predictor = 2;                         ///< estimates that the predictor reads, 1 to 4
  int corrector = 3;                         ///< those of the corrector, its own too, 0 (none) to 5
  bool lower_order_final = true;             ///< the predictor reads no more than steps are left
  bool asks_at_zero_step = false;            ///< ask, to correct, in a last step that goes nowhere
  bool draws_unused = false;                 ///< draw noise where none is added too
  bool learned_variance = false;             ///< the network has 2C channels, the second half idle
  std::function<double(const Knot&)> tau{};  ///< noise of the step from a knot; none: 0
  std::span<const int> uncorrected{};        ///< numbers of steps whose results are not corrected
};

/// A plan in the making: the levels asked about, and what the next row still has to correct.
class PredictorCorrectorRows {
 public:
  PredictorCorrectorRows(const Grid& grid, const PredictorCorrector& method)
      : grid_(grid),
        method_(method),
        rows_(grid, method.form == SolverForm::data ? Basis::x0 : Basis::eps) {}

  void add_step(int i) {
    const auto& [at, to] = grid_[i];
    const bool last = i + 1 == grid_.size(), stays = same_level(at, to);
    if (stays && !(last && method_.asks_at_zero_step)) {
      rows_.move(i, at, to).x = 1;
      return;
    }
    Stage& row = rows_.ask(i);
    if (method_.learned_variance) row.noise_scale.kind = NoiseScale::Kind::exponential;
    asked_.push_back(at);
    const double tau = to.sigma > 0 && method_.tau ? method_.tau(at) : 0;
    require_range("tau", tau, 0.0, 100.0);
    const ExponentialStep step(at, to, method_.form, tau * tau);
    row.x = stays ? 1 : step.x();
    for (std::size_t age = 0; age < correction_.size(); ++age)
      rows_.weigh(static_cast<int>(age), row.x * correction_[age]);
    correction_.clear();
    if (stays) {
      if (method_.draws_unused) rows_.noise(0);
      return;
    }
    const auto predicted = weights(step, i, method_.predictor, 0);
    rows_.weigh(predicted);
    if (tau > 0 || method_.draws_unused) rows_.noise(step.noise());
    const auto& off = method_.uncorrected;
    if (step.infinite() || std::find(off.begin(), off.end(), row.step) != off.end()) return;
    correction_ = weights(step, i, method_.corrector, 1);
    if (correction_.empty()) return;
    correction_.resize((std::max)(correction_.size(), predicted.size() + 1));
    for (std::size_t age = 0; age < predicted.size(); ++age) correction_[age + 1] -= predicted[age];
  }

  SamplingPlan plan(const Clipping& clipping) && {
    return std::move(rows_).plan({.clipping = clipping});
  }

 private:
  /// Weights of up to `order` estimates: that of the step's end where `further` is 1, then that of
  /// its start and earlier ones, of which none counts at alpha = 0, infinitely long ago.
  std::vector<double> weights(const ExponentialStep& step, int i, int order, int further) const {
    if (method_.lower_order_final) order = (std::min)(order, grid_.size() - i + further);
    if (order == 0) return {};
    std::vector<double> nodes(static_cast<std::size_t>(further), 1);
    for (auto level = asked_.rbegin(); level != asked_.rend(); ++level) {
      if (static_cast<int>(nodes.size()) >= (step.infinite() ? 1 : order)) break;
      const double place = level == asked_.rbegin() ? 0 : step.place(*level);
      if (is_finite(place)) nodes.push_back(place);
    }
    nodes.resize((std::min)(nodes.size(), static_cast<std::size_t>(order)));
    std::vector<double> moments;
    for (std::size_t m = 0; m < nodes.size(); ++m)
      moments.push_back(step.moment(static_cast<int>(m)));
    if (nodes.size() == 2 && method_.line == LineMoment::half) moments[1] = step.half_moment();
    if (nodes.size() == 2 && method_.line == LineMoment::half_average) moments[1] = moments[0] / 2;
    return interpolatory_weights(nodes, moments);
  }

  const Grid& grid_;
  const PredictorCorrector& method_;
  PlanRows rows_;
  std::vector<Knot> asked_;
  std::vector<double> correction_;  // by age at the next ask
};

inline SamplingPlan predictor_corrector_plan(const Grid& grid, const PredictorCorrector& method,
                                             const Clipping& clipping) {
  require_enumerator("form", method.form, 2);
  PredictorCorrectorRows rows(grid, method);
  for (int i = 0; i < grid.size(); ++i) rows.add_step(i);
  return std::move(rows).plan(clipping);
}

}  // namespace diffusion::detail

#endif  // DIFFUSION_SAMPLERS_PREDICTOR_CORRECTOR_HPP
