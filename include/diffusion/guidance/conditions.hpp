#ifndef DIFFUSION_GUIDANCE_CONDITIONS_HPP
#define DIFFUSION_GUIDANCE_CONDITIONS_HPP

#include <cstddef>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

namespace diffusion {

/// What one branch of guidance is conditioned on: a condition for each sample, or one for all.
/// Plain data: threads may share what none of them writes.
template <class Condition>
struct ConditionList {
  static_assert(!std::is_same_v<Condition, bool>,
                "std::vector<bool> holds no bools that could be referred to; use int for bool");

  std::vector<Condition> values;
  bool shared = false;  ///< values[0] is that of every sample

  static ConditionList for_all(Condition condition) {
    ConditionList list;
    list.values.push_back(std::move(condition));
    list.shared = true;
    return list;
  }
  static ConditionList one_each(std::vector<Condition> conditions) {
    return {std::move(conditions), false};
  }

  const Condition& operator[](std::size_t sample) const { return values[shared ? 0 : sample]; }
};

/// The conditions of one network call, one per sample of its batch. A view: nothing is copied, so
/// a condition may be of any type, also one that can only be moved. Immutable; valid during the
/// call only.
template <class Condition>
class Conditions {
 public:
  /// A list for each branch of the call, one branch after the other, `batch` samples each.
  Conditions(std::span<const ConditionList<Condition>* const> branches, std::size_t batch)
      : branches_(branches), batch_(batch) {}

  std::size_t size() const { return branches_.size() * batch_; }
  const Condition& operator[](std::size_t sample) const {
    return (*branches_[sample / batch_])[sample % batch_];
  }

 private:
  std::span<const ConditionList<Condition>* const> branches_;
  std::size_t batch_;
};

namespace detail {

/// Lists of conditions that may hold what can only be moved.
template <class Condition, class... Lists>
std::vector<ConditionList<Condition>> lists_of(ConditionList<Condition> first, Lists... others) {
  std::vector<ConditionList<Condition>> lists;
  lists.push_back(std::move(first));
  (lists.push_back(std::move(others)), ...);
  return lists;
}

}  // namespace detail
}  // namespace diffusion

#endif  // DIFFUSION_GUIDANCE_CONDITIONS_HPP
