// Writes the plans of plans.hpp as C++ into one header: export-plans FILE.
#include "plans.hpp"

#include <diffusion/plan/export.hpp>

#include <cstdio>
#include <exception>
#include <fstream>

int main(int argc, char** argv) {
  try {
    if (argc != 2) {
      std::fprintf(stderr, "usage: export-plans FILE\n");
      return 2;
    }
    std::ofstream file(argv[1]);
    file << diffusion::to_constexpr(plans::ddim(), "ddim_12")
         << diffusion::to_constexpr(plans::ddpm(), "ddpm_20")
         << diffusion::to_constexpr(plans::ddpm_learned(), "ddpm_learned_15")
         << diffusion::to_constexpr(plans::multistep(), "multistep_8");
    file.close();
    return file ? 0 : 1;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "export-plans: %s\n", error.what());
    return 1;
  }
}
