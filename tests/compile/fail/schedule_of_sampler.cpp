// A sampler on something that is no schedule.
// says: a schedule needs the const members double alpha(double t), double sigma(double t)
#include "fault.hpp"

#ifdef FAULT
struct Empty {};
#else
using Empty = RectifiedFlow;
#endif

void use() { DdimSampler(Empty(), {.steps = 5}).plan(); }
