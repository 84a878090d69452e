// The distilled student in 1, 2, 4 and 8 steps beside its teacher in 4 and 50, from the same noise:
// what few steps cost, and what they show.
#include <diffusion/interop/diffusers_config.hpp>
#include <diffusion/sampling/sample.hpp>
#include <support/gallery.hpp>

#include <cstdio>
#include <ctime>
#include <string>
#include <vector>

namespace {

using examples::Pictures;

/// Processor time, of all threads, since the program started.
double seconds() { return static_cast<double>(std::clock()) / CLOCKS_PER_SEC; }

/// The student's network knows guidance already: one call a step, with the class.
Pictures by_student(examples::Model& student, int steps, const std::vector<int>& labels,
                    Pictures x) {
  const auto network = [&](const Pictures& state, double t, Pictures& out) {
    student.network(state, t, labels, out);
  };
  diffusion::sample_in_place(student.scheduler.plan({.steps = steps}), network, x,
                             examples::SeedPerPicture{0},
                             {.prediction_type = student.scheduler.prediction_type});
  return x;
}

void compare(examples::Gallery& gallery) {
  examples::Studio student(gallery.arguments().model + "-lcm");
  const std::vector<int> labels = gallery.labels();
  std::string table = "             steps  calls a picture  processor time a picture\n";
  const auto show = [&](const char* name, int steps, int calls, const auto& sample) {
    const double start = seconds();
    const Pictures pictures = sample();
    const double each = (seconds() - start) / gallery.arguments().count;
    char line[100];
    std::snprintf(line, sizeof line, "%-10s %7d %16d %22.1f ms\n", name, steps, calls, 1e3 * each);
    table += line;
    gallery.add(std::string(name) + ", " + std::to_string(steps) + (steps > 1 ? " steps" : " step"),
                pictures, labels);
  };
  for (const int steps : {1, 2, 4, 8})
    show("student", steps, steps,
         [&] { return by_student(student.model(), steps, labels, gallery.noise()); });
  for (const int steps : {4, 50})
    show("teacher", steps, 2 * steps, [&] {
      return gallery.sample(gallery.model().scheduler.plan({.steps = steps}),
                            gallery.guided(labels));
    });
  std::printf("%s", table.c_str());
}

}  // namespace

int main(int argc, char** argv) {
  return examples::gallery(argc, argv, "lcm-steps",
                           "Compares a distilled student, at MODEL-lcm, with its teacher.",
                           compare);
}
