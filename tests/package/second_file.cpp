// A second file of the program that uses the single header: a definition that is not inline would
// not link. Included again after nlohmann/json, the header adds the readers of diffusers' files.
#include <diffusion.hpp>

#include <nlohmann/json.hpp>

#include <diffusion.hpp>

diffusion::DiffusersConfig read_config(const char* text);

diffusion::DiffusersConfig read_config(const char* text) {
  return diffusion::parse_diffusers_config(text);
}
