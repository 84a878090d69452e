// A callback that answers a bool: does true go on, or stop?
// says: a callback must return nothing or a diffusion::Verdict
#include "fault.hpp"

void use() {
  Image x = start();
#ifdef FAULT
  const auto stop = [](const auto& run) { return run.step() > 2; };
#else
  const auto stop = [](const auto& run) {
    return run.step() > 2 ? Verdict::cancel : Verdict::proceed;
  };
#endif
  sample_in_place(sampler(), AnyNetwork(), x, PhiloxNoise{1}, {}, stop);
}
