import os
[]