#ifndef DIFFUSION_TESTS_LAW_CHECKS_HPP
#define DIFFUSION_TESTS_LAW_CHECKS_HPP

// What the tests of the samplers' families share: the laws of a plan, and grids from knots.

#include <diffusion/plan/laws.hpp>
#include <diffusion/plan/plan.hpp>
#include <diffusion/schedule/grid.hpp>

#include <algorithm>
#include <cmath>
#include <vector>

#include "catch.hpp"

/// Variances of VE schedules reach 2500 and more: tolerances are relative to the largest, or to 1.
inline double scale_of(const diffusion::SamplingPlan& plan) {
  double scale = 1;
  for (const diffusion::Stage& s : plan.stages())
    scale = (std::max)(scale, s.at.sigma * s.at.sigma);
  return scale;
}

/// All three laws; the variance to ten times the tolerance of the mean.
inline void check_all_laws(const diffusion::SamplingPlan& plan, double tolerance = 1e-10) {
  const diffusion::Laws laws = diffusion::check_laws(plan);
  CHECK(laws.mean <= tolerance);
  CHECK(laws.variance <= 10 * tolerance * scale_of(plan));
  CHECK(laws.continuity <= 1e-11);
}

inline diffusion::Grid grid_of(const std::vector<diffusion::Knot>& knots) {
  return diffusion::Grid::through(knots);
}

/// The knot of a variance exploding schedule whose time is sigma.
inline diffusion::Knot exploding(double log_snr) {
  return {std::exp(-log_snr / 2), 1, std::exp(-log_snr / 2)};
}

/// The same rows, whatever steps they are numbered as.
inline void check_same_rows(const diffusion::SamplingPlan& a, const diffusion::SamplingPlan& b) {
  REQUIRE(a.size() == b.size());
  for (int i = 0; i < a.size(); ++i) {
    diffusion::Stage row = a[i];
    row.step = b[i].step;
    CHECK(row == b[i]);
  }
}

#endif  // DIFFUSION_TESTS_LAW_CHECKS_HPP
