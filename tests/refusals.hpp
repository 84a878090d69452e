#ifndef DIFFUSION_TESTS_REFUSALS_HPP
#define DIFFUSION_TESTS_REFUSALS_HPP

#include <diffusion/error.hpp>

#include <functional>
#include <string>
#include <vector>

#include "catch.hpp"

/// A call that must fail, and what its message must hold: the value and the limit.
struct Refusal {
  const char* name;
  std::function<void()> call;
  std::vector<const char*> parts;
};

inline void check_refusals(const std::vector<Refusal>& refusals) {
  for (const Refusal& refusal : refusals) {
    CAPTURE(refusal.name);
    std::string message;
    try {
      refusal.call();
    } catch (const diffusion::Error& error) {
      message = error.what();
    }
    REQUIRE_FALSE(message.empty());
    for (const char* part : refusal.parts) CHECK_THAT(message, contains(part));
  }
}

#endif  // DIFFUSION_TESTS_REFUSALS_HPP
