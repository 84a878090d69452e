#ifndef DIFFUSION_SAMPLERS_SAMPLER_BY_NAME_HPP
#define DIFFUSION_SAMPLERS_SAMPLER_BY_NAME_HPP

#include <diffusion/error.hpp>
#include <diffusion/samplers/sampler_names.hpp>
#include <diffusion/spelling.hpp>

#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace diffusion {

namespace detail {

/// A name's letters and digits, small; "+" is "p", as in dpmpp for DPM++.
inline std::string plain_name(std::string_view name) {
  std::string plain;
  for (const char c : name) {
    if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9')) plain += c;
    if (c >= 'A' && c <= 'Z') plain += static_cast<char>(c - 'A' + 'a');
    if (c == '+') plain += 'p';
  }
  return plain;
}

inline std::vector<std::string> plain_names(const SamplerName& one) {
  std::vector<std::string> names{plain_name(one.name)};
  for (const auto* list : {&one.a1111, &one.comfyui})
    for (const auto& name : *list) names.push_back(plain_name(name));
  if (!one.diffusers.empty()) names.push_back(plain_name(one.diffusers));
  return names;
}

inline std::vector<std::string> plain_names(const GridName& one) {
  std::vector<std::string> names{plain_name(one.name)};
  for (const auto& name : one.aliases) names.push_back(plain_name(name));
  return names;
}

/// The entry of a table that has this plain name; none: nullptr.
template <class Entry>
const Entry* entry_named(const std::vector<Entry>& table, const std::string& plain) {
  for (const Entry& one : table)
    for (const std::string& name : plain_names(one))
      if (name == plain) return &one;
  return nullptr;
}

/// "A, B, C": the three entries whose names are nearest.
template <class Entry>
std::string nearest_names(const std::vector<Entry>& table, const std::string& plain) {
  std::vector<std::pair<std::size_t, const Entry*>> ranked;
  for (const Entry& one : table) {
    std::size_t least = plain.size() + 100;
    for (const std::string& name : plain_names(one))
      least = (std::min)(least, letters_apart(plain, name));
    ranked.emplace_back(least, &one);
  }
  std::stable_sort(ranked.begin(), ranked.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  std::string list;
  for (std::size_t i = 0; i < 3 && i < ranked.size(); ++i)
    list += (i > 0 ? ", " : "") + ranked[i].second->name;
  return list;
}

/// Fails where the name, or the part before or after a known one, is on a list of refused names.
inline void refuse(const char* what, const std::vector<RefusedName>& list, std::string_view name,
                   const std::string& plain) {
  for (const RefusedName& one : list)
    if (plain_name(one.name) == plain)
      fail(text(what, " \"", std::string(name), "\" is known and not supported: ", one.reason));
}

inline const GridName& grid_named(std::string_view name) {
  const std::string plain = plain_name(name);
  if (const GridName* found = entry_named(grid_names(), plain)) return *found;
  refuse("grid", refused_grid_names(), name, plain);
  fail(text("grid \"", std::string(name), "\" is not known; the nearest are ",
            nearest_names(grid_names(), plain)));
}

/// A plain name less the grid's name at its end, where there is one.
inline std::string without_grid(const std::string& plain) {
  std::size_t longest = 0;
  for (const GridName& one : grid_names())
    for (const std::string& grid : plain_names(one))
      if (plain.size() > grid.size() && plain.ends_with(grid))
        longest = (std::max)(longest, grid.size());
  return plain.substr(0, plain.size() - longest);
}

inline const SamplerName& sampler_named(std::string_view name) {
  const std::string plain = plain_name(name);
  if (const SamplerName* found = entry_named(sampler_names(), plain)) return *found;
  refuse("sampler", refused_sampler_names(), name, plain);
  fail(text("sampler \"", std::string(name), "\" is not known; the nearest are ",
            nearest_names(sampler_names(), without_grid(plain))));
}

/// "automatic" is what A1111 takes for the sampler.
inline const GridName& grid_for(const SamplerName& sampler, std::string_view name) {
  return grid_named(plain_name(name) == "automatic" ? std::string_view(sampler.automatic) : name);
}

/// Where a name that holds both ends its sampler: tried from the right, so that the longest
/// sampler's name counts. 0: nowhere.
inline std::size_t end_of_sampler(const std::string& plain) {
  for (std::size_t end = plain.size() - 1; end > 0; --end) {
    const std::string sampler = plain.substr(0, end), grid = plain.substr(end);
    const auto refused = [](const std::vector<RefusedName>& list, const std::string& part) {
      return std::any_of(list.begin(), list.end(),
                         [&](const RefusedName& one) { return plain_name(one.name) == part; });
    };
    const bool sampler_known =
        entry_named(sampler_names(), sampler) || refused(refused_sampler_names(), sampler);
    const bool grid_known = grid == "automatic" || entry_named(grid_names(), grid) ||
                            refused(refused_grid_names(), grid);
    if (sampler_known && grid_known) return end;
  }
  return 0;
}

}  // namespace detail

/// A sampler and a grid by the names that A1111, ComfyUI or diffusers give them, such as "DPM++ 2M"
/// and "Karras", "dpmpp_2m" and "karras": small and capital letters, spaces and signs do not count.
/// The grid "Automatic" is what A1111 takes for the sampler. Fails where a name is not known, with
/// the nearest that are, or not supported, with the reason.
inline AnySampler sampler_by_name(std::string_view sampler, std::string_view grid,
                                  const AnySchedule& schedule) {
  const SamplerName& one = detail::sampler_named(sampler);
  const GridName& on = detail::grid_for(one, grid);
  SamplerOptions options = one.options(schedule);
  GridOptions levels = on.options;
  if (!schedule.discrete()) levels.steps_offset = 0;
  std::visit([&](auto& chosen) { chosen.grid = levels; }, options);
  return AnySampler(schedule, std::move(options), one.name + " " + on.name);
}

/// The same by one name, "DPM++ 2M Karras" or "dpmpp_2m_karras". A sampler's name alone is with the
/// grid "Normal".
inline AnySampler sampler_by_name(std::string_view name, const AnySchedule& schedule) {
  const std::string plain = detail::plain_name(name);
  if (plain.empty())
    fail(detail::text("the name of a sampler is \"", std::string(name), "\"; it has no letters"));
  if (!detail::entry_named(sampler_names(), plain)) {
    detail::refuse("sampler", refused_sampler_names(), name, plain);
    if (const std::size_t end = detail::end_of_sampler(plain))
      return sampler_by_name(plain.substr(0, end), plain.substr(end), schedule);
  }
  return sampler_by_name(name, "Normal", schedule);
}

/// The same on any schedule.
template <class S>
AnySampler sampler_by_name(std::string_view name, const S& schedule) {
  return sampler_by_name(name, AnySchedule(schedule));
}
/// The same by two names on any schedule.
template <class S>
AnySampler sampler_by_name(std::string_view sampler, std::string_view grid, const S& schedule) {
  return sampler_by_name(sampler, grid, AnySchedule(schedule));
}

}  // namespace diffusion

#endif  // DIFFUSION_SAMPLERS_SAMPLER_BY_NAME_HPP
