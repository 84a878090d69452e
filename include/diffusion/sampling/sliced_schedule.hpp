#ifndef DIFFUSION_SAMPLING_SLICED_SCHEDULE_HPP
#define DIFFUSION_SAMPLING_SLICED_SCHEDULE_HPP

#include <diffusion/error.hpp>
#include <diffusion/plan/plan.hpp>

#include <algorithm>
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

namespace diffusion {

/// How far every slice of a run has come, and when. A matrix of steps of the plan: 0 is where the
/// plan starts, n = plan.steps() is done. Row r says for each slice (column) the step to which it
/// shall have come when the row has been worked off. A row asks the network as often as its slowest
/// slice has asks to go; slices that have arrived wait, unchanged. Columns are the slices, or the
/// parts of a sample where all samples keep the same time. Plain data: threads may share what none
/// of them writes.
struct SliceSchedule {
  std::vector<int> start;  ///< the step where each slice stands at first; n: known, never changed
  std::vector<std::vector<int>> rows;

  std::size_t columns() const { return start.size(); }

  /// All slices begin at step 0 of the plan.
  static SliceSchedule from_noise(std::size_t columns, std::vector<std::vector<int>> rows) {
    return {std::vector<int>(columns), std::move(rows)};
  }

  /// The same for slices of which `column` is known from the start: it stands at step n throughout.
  /// Rows in which nothing is left to move are dropped.
  SliceSchedule known(std::size_t column, int n) const {
    if (column >= columns())
      fail(detail::text("slice ", column, " is to be known; the schedule has ", columns()));
    SliceSchedule schedule = *this;
    schedule.start[column] = n;
    schedule.rows.clear();
    std::vector<int> before = schedule.start;
    for (std::vector<int> row : rows) {
      row[column] = n;
      if (row == before) continue;
      before = row;
      schedule.rows.push_back(std::move(row));
    }
    return schedule;
  }

  /// This schedule and, in the columns after its own, another: samples that keep each their own
  /// time. The shorter one waits at its last row.
  SliceSchedule beside(const SliceSchedule& other) const {
    SliceSchedule both{joined(start, other.start), {}};
    for (std::size_t r = 0; r < (std::max)(rows.size(), other.rows.size()); ++r)
      both.rows.push_back(joined(row_or_last(r), other.row_or_last(r)));
    return both;
  }

  /// One line a row, the start first: "0 0 0\n1 0 0\n...".
  std::string text() const {
    std::string lines;
    const auto add = [&lines](const std::vector<int>& row) {
      for (std::size_t i = 0; i < row.size(); ++i)
        lines += (i > 0 ? " " : "") + std::to_string(row[i]);
      lines += '\n';
    };
    add(start);
    for (const std::vector<int>& row : rows) add(row);
    return lines;
  }

  friend bool operator==(const SliceSchedule&, const SliceSchedule&) = default;

 private:
  static std::vector<int> joined(std::vector<int> a, const std::vector<int>& b) {
    a.insert(a.end(), b.begin(), b.end());
    return a;
  }
  const std::vector<int>& row_or_last(std::size_t r) const {
    return rows.empty() ? start : rows[(std::min)(r, rows.size() - 1)];
  }
};

/// Fails unless the schedule fits: a column for every slice of `samples` samples of `parts` parts,
/// or for every part; steps in [0, steps] that never fall.
inline void check_schedule(const SliceSchedule& schedule, int steps, std::size_t samples,
                           std::size_t parts) {
  const std::size_t columns = schedule.columns();
  if (columns != parts && columns != samples * parts)
    fail(detail::text("the schedule is for ", columns, " slices; ", samples, " samples of ", parts,
                      parts == 1 ? " part need " : " parts need ", samples * parts, " or, for all ",
                      "samples alike, ", parts));
  const auto require = [&](const char* where, std::size_t row, std::size_t slice, int step) {
    if (step < 0 || step > steps)
      fail(detail::text(where, row, " of the schedule takes slice ", slice, " to step ", step,
                        "; the plan has the steps 0 to ", steps));
  };
  for (std::size_t i = 0; i < columns; ++i) require("the start, row ", 0, i, schedule.start[i]);
  for (std::size_t r = 0; r < schedule.rows.size(); ++r) {
    const std::vector<int>& row = schedule.rows[r];
    if (row.size() != columns)
      fail(detail::text("row ", r, " of the schedule has ", row.size(), " slices; its start has ",
                        columns));
    for (std::size_t i = 0; i < columns; ++i) {
      require("row ", r, i, row[i]);
      const int before = r == 0 ? schedule.start[i] : schedule.rows[r - 1][i];
      if (row[i] < before)
        fail(detail::text("row ", r, " of the schedule takes slice ", i, " from step ", before,
                          " back to ", row[i], "; steps must not fall"));
    }
  }
}

namespace detail {

/// The first stage of each step, and the plan's size: where a slice stands that has come to it.
inline std::vector<int> first_stages(const PlanView& plan) {
  std::vector<int> first;
  for (int i = 0; i < plan.size(); ++i) {
    const int step = plan.stages[static_cast<std::size_t>(i)].step - plan.stages.front().step;
    while (static_cast<int>(first.size()) <= step) first.push_back(i);
  }
  first.push_back(plan.size());
  return first;
}

/// Fails where a run that starts at a stage would read what was made before: estimates, the saved
/// state.
inline void check_start(const PlanView& plan, int begin, int step) {
  const auto refuse = [&](int stage, const char* what) {
    fail(text("a slice starts at step ", step, ", but stage ", stage, " of the plan reads ", what,
              " of a stage before it; start slices in the middle with a one-step sampler (DDIM, "
              "Euler), or sample them from a plan of their own"));
  };
  std::vector<char> made(static_cast<std::size_t>(plan.traits.slots));
  bool saved = false;
  for (int i = begin; i < plan.size(); ++i) {
    const Stage& s = plan.stages[static_cast<std::size_t>(i)];
    for (const Term& term : s.history)
      if (term.source >= 0 && term.weight != 0 && !made[static_cast<std::size_t>(term.source)])
        refuse(i, "an estimate");
    saved = saved || s.save;
    if (s.saved != 0 && !saved) refuse(i, "the saved state");
    if (s.keep >= 0) made[static_cast<std::size_t>(s.keep)] = 1;
  }
}

/// Fails for a sequential source of noise unless all slices that move do so in step.
inline void require_in_step(const PlanView& plan, const SliceSchedule& schedule) {
  if (plan.draws() == 0) return;
  const auto column = [&](std::size_t i, std::size_t r) {
    return r == 0 ? schedule.start[i] : schedule.rows[r - 1][i];
  };
  std::size_t first = schedule.columns();
  for (std::size_t i = 0; i < schedule.columns(); ++i) {
    if (schedule.start[i] == plan.steps()) continue;
    if (first == schedule.columns()) first = i;
    for (std::size_t r = 0; r <= schedule.rows.size(); ++r)
      if (column(i, r) != column(first, r))
        fail(text("slice ", i, " is at step ", column(i, r), " where slice ", first, " is at ",
                  column(first, r),
                  ", and the plan draws noise; a sequential source gives whole "
                  "tensors in order, so slices must draw in step: use noise by address "
                  "(PhiloxNoise)"));
  }
  if (first < schedule.columns() && schedule.start[first] != 0)
    fail(text("slices start at step ", schedule.start[first],
              " of a plan that draws noise; from a sequential source they must start at step 0: "
              "use noise by address (PhiloxNoise)"));
}

}  // namespace detail
}  // namespace diffusion

#endif  // DIFFUSION_SAMPLING_SLICED_SCHEDULE_HPP
