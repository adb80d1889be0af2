// SPDX-License-Identifier: MIT
// SPDX-FileCopyrightText: The Mesh authors
// Something for the compiler to work on.
#include <algorithm>
#include <map>
#include <sstream>
#include <string>
#include <vector>

int main(int argc, char **argv)
{
	std::map<std::string, std::vector<std::string>> words;
	std::string word;

	for (int i = 1; i < argc; i++) {
		std::istringstream text(argv[i]);

		while (text >> word)
			words[word].push_back(text.str());
	}
	for (auto &entry : words)
		std::sort(entry.second.begin(), entry.second.end());
	return words.empty();
}
