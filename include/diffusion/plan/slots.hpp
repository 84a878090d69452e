#ifndef DIFFUSION_PLAN_SLOTS_HPP
#define DIFFUSION_PLAN_SLOTS_HPP

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace diffusion::detail {

/// Register allocation in one scan: values come in order, and each gets the first slot that nobody
/// reads any more.
class Slots {
 public:
  /// A slot whose last reader lies before moment `now`; it is then taken until moment `end`.
  std::int32_t take(std::size_t now, std::size_t end) {
    const auto free = std::find_if(busy_until_.begin(), busy_until_.end(),
                                   [now](std::size_t until) { return until <= now; });
    const auto slot = static_cast<std::int32_t>(free - busy_until_.begin());
    if (free == busy_until_.end())
      busy_until_.push_back(end);
    else
      *free = end;
    return slot;
  }
  std::int32_t count() const { return static_cast<std::int32_t>(busy_until_.size()); }

 private:
  std::vector<std::size_t> busy_until_;
};

}  // namespace diffusion::detail

#endif  // DIFFUSION_PLAN_SLOTS_HPP
