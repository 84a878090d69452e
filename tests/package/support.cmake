# For the scripts of these tests, run as: cmake -D SETTINGS=settings.cmake -P test_NAME.cmake
# The settings are written by CMakeLists.txt, which lists them.
include(${SETTINGS})

# Each script has an empty folder of its own, `here`.
get_filename_component(script ${CMAKE_SCRIPT_MODE_FILE} NAME_WE)
set(here ${FOLDER}/${script})
file(REMOVE_RECURSE ${here})
file(MAKE_DIRECTORY ${here})

# Runs a command and sets `output` to what it printed. A command that fails ends the test.
function(run)
  execute_process(COMMAND ${ARGV} RESULT_VARIABLE result
                  OUTPUT_VARIABLE printed ERROR_VARIABLE errors)
  if(NOT result STREQUAL 0)
    list(JOIN ARGV " " command)
    message(FATAL_ERROR "${command}\nended with ${result}:\n${printed}\n${errors}")
  endif()
  set(output "${printed}" PARENT_SCOPE)
endfunction()

# Fails with both texts unless they are equal.
function(expect_equal what value wanted)
  if(NOT value STREQUAL wanted)
    message(FATAL_ERROR "${what}:\n${value}\n-- instead of:\n${wanted}")
  endif()
endfunction()

# The words of a configure command that are the same for every project.
set(configure ${CMAKE_COMMAND} -G ${GENERATOR} -D CMAKE_MAKE_PROGRAM=${MAKE_PROGRAM}
  -D CMAKE_CXX_COMPILER=${COMPILER} -D CMAKE_BUILD_TYPE=Debug -D CMAKE_CXX_FLAGS_DEBUG=-O0
  -D CMAKE_EXPORT_COMPILE_COMMANDS=ON)

# Writes a user's project into `here`: main.cpp, the CMakeLists.txt of the folder, and the library
# as third_party/eigen-diffusion.
function(make_project folder)
  file(GLOB files ${CMAKE_CURRENT_LIST_DIR}/${folder}/*)
  file(COPY ${files} ${CMAKE_CURRENT_LIST_DIR}/main.cpp
            ${CMAKE_CURRENT_LIST_DIR}/nothing_leaks.cmake DESTINATION ${here}/project)
  file(MAKE_DIRECTORY ${here}/project/third_party)
  file(CREATE_LINK ${SOURCE} ${here}/project/third_party/eigen-diffusion SYMBOLIC)
endfunction()

# Configures and builds the project in `here`, with these words for the configure command as well.
function(build_project)
  run(${configure} ${ARGN} -S ${here}/project -B ${here}/build
      -D CMAKE_RUNTIME_OUTPUT_DIRECTORY=${here}/bin
      -D CMAKE_RUNTIME_OUTPUT_DIRECTORY_DEBUG=${here}/bin)
  run(${CMAKE_COMMAND} --build ${here}/build --config Debug)
endfunction()

# No macro, warning, machine or language option has come to the project's own files.
function(expect_plain_compile_commands)
  if(EXISTS ${here}/build/compile_commands.json)
    file(READ ${here}/build/compile_commands.json commands)
    string(REGEX MATCH " -[DWfm][^ ]*" option "${commands}")
    expect_equal("an option that the library brought" "${option}" "")
  endif()
endfunction()

# Runs the program that was built from main.cpp. It checks what it computes; the version is ours.
function(run_program program)
  run(${program})
  string(REGEX MATCH "^[^\n]*" version "${output}")
  expect_equal("the version of the headers" "${version}" "${VERSION}")
  set(output "${output}" PARENT_SCOPE)
endfunction()
