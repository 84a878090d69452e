# Writes the whole library into one file:
#
#   cmake -D INCLUDE=include -D OUTPUT=diffusion.hpp -P single_header.cmake
#
# Each header stands once, after those that it includes, guard and all, so that the file may be
# included anywhere, and beside the headers themselves. Includes of Eigen and of the standard
# library stay where they are. Two parts come last, for files that have included what these need
# before: the exact denoisers, which take seconds to compile, after <Eigen/Eigenvalues> (part of
# <Eigen/Dense>), and the readers of diffusers' files after nlohmann/json.

cmake_minimum_required(VERSION 3.20)
get_filename_component(INCLUDE ${INCLUDE} ABSOLUTE)

file(STRINGS ${INCLUDE}/diffusion/version.hpp numbers REGEX "#define DIFFUSION_VERSION_")
list(TRANSFORM numbers REPLACE "[^0-9]" "")
list(JOIN numbers "." version)

get_filename_component(top "${CMAKE_CURRENT_LIST_DIR}/../.." ABSOLUTE)
file(READ ${top}/LICENSE licence)
string(STRIP "${licence}" licence)
string(REPLACE "\n" "\n// " licence "// ${licence}")
string(REPLACE "// \n" "//\n" licence "${licence}")
set(text "// eigen-diffusion ${version}: the library in one file, made from its headers.\n//\n")
string(APPEND text "${licence}\n")

# Appends a header to `text`, after the headers that it includes.
function(append_header header)
  get_property(written GLOBAL PROPERTY written_headers)
  if(header IN_LIST written)
    return()
  endif()
  set_property(GLOBAL APPEND PROPERTY written_headers ${header})

  file(READ ${INCLUDE}/${header} content)
  set(content "\n${content}")
  string(REGEX MATCHALL "\n#include <diffusion/[^>]+>" includes "${content}")
  foreach(include IN LISTS includes)
    string(REGEX REPLACE ".*<(.*)>" "\\1" needed "${include}")
    append_header(${needed})
  endforeach()
  string(REGEX REPLACE "\n#include <diffusion/[^\n]*" "" content "${content}")
  string(REGEX REPLACE "\n\n\n+" "\n\n" content "${content}")
  set(text "${text}\n// ---- ${header}${content}" PARENT_SCOPE)
endfunction()

# Sets `result` to the includes from elsewhere, of the header and of those that it includes.
function(list_includes header result)
  set(found "")
  file(STRINGS ${INCLUDE}/${header} includes REGEX "^#include <")
  foreach(include IN LISTS includes)
    string(REGEX REPLACE ".*<(.*)>.*" "\\1" needed "${include}")
    if(needed MATCHES "^diffusion/")
      list_includes(${needed} needed)
    endif()
    list(APPEND found ${needed})
  endforeach()
  list(REMOVE_DUPLICATES found)
  set(${result} "${found}" PARENT_SCOPE)
endfunction()

set(core_headers "")
set(eigenvalues_headers "")
set(json_headers "")
file(GLOB_RECURSE headers RELATIVE ${INCLUDE} ${INCLUDE}/diffusion/*.hpp)
list(SORT headers)
foreach(header IN LISTS headers)
  list_includes(${header} needed)
  if(nlohmann/json.hpp IN_LIST needed)
    list(APPEND json_headers ${header})
  elseif(Eigen/Eigenvalues IN_LIST needed)
    list(APPEND eigenvalues_headers ${header})
  else()
    list(APPEND core_headers ${header})
  endif()
endforeach()

foreach(header IN LISTS core_headers)
  append_header(${header})
endforeach()
string(APPEND text "\n#ifdef EIGEN_EIGENVALUES_MODULE_H  // after <Eigen/Eigenvalues>\n")
foreach(header IN LISTS eigenvalues_headers)
  append_header(${header})
endforeach()
string(APPEND text "\n#endif\n\n#ifdef NLOHMANN_JSON_VERSION_MAJOR  // after <nlohmann/json.hpp>\n")
foreach(header IN LISTS json_headers)
  append_header(${header})
endforeach()
string(APPEND text "\n#endif\n")

file(WRITE ${OUTPUT} "${text}")
