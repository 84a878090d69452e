// A source that counts its draws, given away: the run would refer to what is gone.
// says: a sequential noise source is referred to: it must outlive the run
#include "fault.hpp"

void use() {
  TorchCpuNoise noise{1};
#ifdef FAULT
  Stepper run(plan(), start(), TorchCpuNoise{1});
#else
  Stepper run(plan(), start(), noise);
#endif
}
