// A schedule where a sampler or a plan belongs.
// says: what is sampled must be a SamplingPlan, a PlanView, or a sampler
#include "fault.hpp"

void use() {
  Image x = start();
#ifdef FAULT
  sample_in_place(NoiseSchedule<>::linear(), AnyNetwork(), x, PhiloxNoise{1});
#else
  sample_in_place(sampler(), AnyNetwork(), x, PhiloxNoise{1});
#endif
}
