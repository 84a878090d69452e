#ifndef DIFFUSION_TESTS_CATCH_HPP
#define DIFFUSION_TESTS_CATCH_HPP

// Catch2, version 2 or 3, with the few names that moved between them.

#include <string>

#if __has_include(<catch2/catch_all.hpp>)
#include <catch2/catch_all.hpp>
using Catch::Approx;
#else
#include <catch2/catch.hpp>  // declares Approx globally
namespace Catch {
using Detail::Approx;
}
#endif

/// A matcher for CHECK_THAT and CHECK_THROWS_WITH: the string holds `part`.
inline auto contains(const std::string& part) {
#if __has_include(<catch2/catch_all.hpp>)
  return Catch::Matchers::ContainsSubstring(part);
#else
  return Catch::Matchers::Contains(part);
#endif
}

#endif  // DIFFUSION_TESTS_CATCH_HPP
