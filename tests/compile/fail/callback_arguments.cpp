// A callback that expects a step and a state.
// says: a callback must be callable as (const auto& run)
#include "fault.hpp"

void use() {
  Image x = start();
#ifdef FAULT
  const auto show = [](int, const Image&) {};
#else
  const auto show = [](const auto&) {};
#endif
  sample_in_place(sampler(), AnyNetwork(), x, PhiloxNoise{1}, {}, show);
}
