// A schedule that does not say where time begins and ends.
// says: a schedule needs the const members double alpha(double t), double sigma(double t)
#include "fault.hpp"

struct Straight {
  double alpha(double t) const { return 1 - t; }
  double sigma(double t) const { return t; }
#ifndef FAULT
  double time(double log_snr) const { return 1 / (1 + std::exp(log_snr / 2)); }
  double first_time() const { return 0; }
  double last_time() const { return 1; }
#endif
};

void use() { make_grid(Straight(), 10); }
