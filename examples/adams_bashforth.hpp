#ifndef DIFFUSION_EXAMPLES_ADAMS_BASHFORTH_HPP
#define DIFFUSION_EXAMPLES_ADAMS_BASHFORTH_HPP

// A sampler of one's own: docs/writing-a-sampler.md builds it line by line.
#include <diffusion/samplers/sampler.hpp>

#include <utility>
#include <vector>

struct AdamsBashforthOptions {
  int steps = 20;
  diffusion::GridOptions grid{};
};

/// The method of Adams and Bashforth, of second order, for d(x / alpha) / du = eps with
/// u = sigma / alpha: the line through the last two eps instead of the last one alone.
template <diffusion::Schedule S>
class AdamsBashforthSampler : public diffusion::GridSampler<S, AdamsBashforthOptions> {
 public:
  explicit AdamsBashforthSampler(S schedule, AdamsBashforthOptions options = {})
      : diffusion::GridSampler<S, AdamsBashforthOptions>(std::move(schedule), std::move(options)) {}

  diffusion::SamplingPlan plan() const { return plan(this->grid()); }

  diffusion::SamplingPlan plan(const diffusion::Grid& grid) const {
    std::vector<diffusion::Stage> rows;
    double h_before = 0;
    for (int i = 0; i < grid.size(); ++i) {
      const auto& [from, to] = grid[i];
      const double h = to.sigma / to.alpha - from.sigma / from.alpha;
      const double bend = i == 0 ? 0 : h / (2 * h_before);  // 0: a first step is Euler's
      diffusion::Stage row{.at = from, .to = to, .step = grid.first_step() + i};
      row.x = to.alpha / from.alpha;
      row.eps = to.alpha * h * (1 + bend);
      if (i > 0) row.history[0] = {i - 1, -to.alpha * h * bend};  // the estimate of the step before
      rows.push_back(row);
      h_before = h;
    }
    return diffusion::SamplingPlan(std::move(rows), {.basis = diffusion::Basis::eps});
  }
};

#endif  // DIFFUSION_EXAMPLES_ADAMS_BASHFORTH_HPP
