#ifndef DIFFUSION_PLAN_PRINT_HPP
#define DIFFUSION_PLAN_PRINT_HPP

#include <diffusion/plan/plan.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdio>
#include <ostream>
#include <string>
#include <vector>

namespace diffusion {

namespace detail {

inline std::string number(double value) {
  std::array<char, 32> buffer{};
  std::snprintf(buffer.data(), buffer.size(), "%.6g", value);
  return buffer.data();
}

inline std::string terms(const auto& list, const char* prefix) {
  std::string text;
  for (const Term& term : list)
    if (term.source >= 0)
      text += (text.empty() ? "" : " ") + number(term.weight) + " " + prefix +
              std::to_string(term.source);
  return text;
}

}  // namespace detail

/// A plan as a table, one line a stage; columns that are empty throughout are left out.
inline std::string to_table(const PlanView& plan) {
  using Row = std::vector<std::string>;
  std::vector<Row> rows = {{"step", "ask", "t", "alpha", "sigma", "to alpha", "to sigma", "input",
                            "x", "x0", "eps", "raw", "saved", "history", "keep", "noise"}};
  const auto weight = [](double w) { return w == 0 ? std::string() : detail::number(w); };
  for (const Stage& s : plan.stages) {
    std::string noise = detail::terms(s.noise, "n");
    if (!noise.empty() && s.noise_scale.kind != NoiseScale::Kind::fixed) noise += " * learned";
    if (s.langevin_snr > 0) noise += " langevin " + detail::number(s.langevin_snr);
    rows.push_back({std::to_string(s.step), s.ask ? "yes" : "no", detail::number(s.at.t),
                    detail::number(s.at.alpha), detail::number(s.at.sigma),
                    detail::number(s.to.alpha), detail::number(s.to.sigma),
                    s.input_scale == 1 ? "" : detail::number(s.input_scale), weight(s.x),
                    weight(s.x0), weight(s.eps), weight(s.raw),
                    weight(s.saved) + (s.save ? "S" : ""), detail::terms(s.history, "e"),
                    s.keep < 0 ? "" : "e" + std::to_string(s.keep), noise});
  }
  std::string table;
  const auto used = [&](std::size_t column) {
    for (std::size_t i = 1; i < rows.size(); ++i)
      if (!rows[i][column].empty()) return true;
    return false;
  };
  std::vector<std::size_t> widths(rows[0].size(), 0);
  for (std::size_t column = 0; column < widths.size(); ++column)
    if (used(column))
      for (const Row& row : rows) widths[column] = (std::max)(widths[column], row[column].size());
  for (const Row& row : rows) {
    std::string line;
    for (std::size_t column = 0; column < row.size(); ++column)
      if (widths[column] > 0)
        line += std::string(widths[column] - row[column].size() + (line.empty() ? 0 : 2), ' ') +
                row[column];
    table += line + "\n";
  }
  return table;
}

/// The same for a plan.
inline std::string to_table(const SamplingPlan& plan) { return to_table(plan.view()); }

/// Writes the table.
inline std::ostream& operator<<(std::ostream& stream, const SamplingPlan& plan) {
  return stream << to_table(plan);
}

}  // namespace diffusion

#endif  // DIFFUSION_PLAN_PRINT_HPP
